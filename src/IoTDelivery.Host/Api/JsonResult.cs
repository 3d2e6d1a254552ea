using System.Text.Encodings.Web;
using System.Text.Json;

namespace IoTDelivery.Host.Api;

/// <summary>A JSON answer written by hand: the contract's names and order, nothing a serializer decides.</summary>
public sealed class JsonResult(int status, Action<Utf8JsonWriter> write) : IResult
{
    private static readonly JsonWriterOptions Options = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    public async Task ExecuteAsync(HttpContext httpContext)
    {
        httpContext.Response.StatusCode = status;
        httpContext.Response.ContentType = "application/json";
        using (var json = new Utf8JsonWriter(httpContext.Response.BodyWriter, Options)) write(json);
        await httpContext.Response.BodyWriter.FlushAsync(httpContext.RequestAborted);
    }
}
