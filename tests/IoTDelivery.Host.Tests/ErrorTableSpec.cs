using System.Reflection;
using System.Text.RegularExpressions;
using IoTDelivery.Domain;
using IoTDelivery.Host.Api;

namespace IoTDelivery.Host.Tests;

/// <summary>There is one table of error codes; the one in the docs says the same.</summary>
public sealed partial class ErrorTableSpec
{
    private static readonly string Root = HouseSpec.FindRoot();

    [Fact]
    public void The_table_in_the_docs_is_the_one_in_the_code()
    {
        var code = Statics<ErrorCode>(typeof(ErrorCodes)).Select(c => $"| {c.Status} | `{c.Code}` | {c.Meaning} |")
            .Concat(Statics<ErrorInfo>(typeof(ErrorInfo)).Append(ErrorInfo.RefusedByDevice(0x87))
                .OrderBy(i => i.Code[0] == 'D').ThenBy(i => i.Code, StringComparer.Ordinal)
                .Select(i => $"| `{i.Code}` | {i.Text} |"));
        var docs = File.ReadLines(Path.Combine(Root, "docs/ERRORS.md")).Where(line => Row().IsMatch(line));

        Assert.Equal(code, docs);
    }

    [Fact]
    public void Every_row_is_there_once()
    {
        var rows = Statics<ErrorCode>(typeof(ErrorCodes)).Select(c => (c.Status, c.Code)).ToList();

        Assert.Equal(rows.Distinct(), rows);
    }

    [Fact]
    public void No_code_is_written_anywhere_but_in_the_table()
    {
        foreach (var file in Directory.EnumerateFiles(Path.Combine(Root, "src"), "*.cs", SearchOption.AllDirectories).Where(f => !f.Contains("/obj/") && !f.Contains("/bin/")))
        {
            if (Path.GetFileName(file) is "ErrorCodes.cs" or "ErrorInfo.cs") continue;
            Assert.False(
                Literal().IsMatch(File.ReadAllText(file)),
                $"{Path.GetFileName(file)} writes an error code itself. Give it a row in Api/ErrorCodes.cs (and docs/ERRORS.md) and answer ErrorCodes.Row.With(text); why a message failed stands in Domain/ErrorInfo.cs.");
        }
    }

    private static IEnumerable<T> Statics<T>(Type type) => type.GetFields(BindingFlags.Public | BindingFlags.Static).Select(f => f.GetValue(null)).OfType<T>();

    [GeneratedRegex(@"^\| (\d{3} \| )?`(IOTDA|DELIVERY)\.\d+` \|")]
    private static partial Regex Row();

    [GeneratedRegex(@"""(IOTDA|DELIVERY)\.\d+""")]
    private static partial Regex Literal();
}
