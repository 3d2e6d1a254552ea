using System.CommandLine;
using System.Net.Http.Json;
using System.Text.Json;

namespace IoTDelivery.Host.Admin;

/// <summary>The command <c>cluster</c>: asks any node over <c>/admin/cluster</c> and prints what it says.</summary>
public static class ClusterCommand
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(20);

    private static readonly Option<Uri> Url = new("--url")
    {
        Description = "Any node that listens for REST.",
        DefaultValueFactory = _ => new Uri("http://127.0.0.1:8080"),
        CustomParser = given =>
        {
            if (Uri.TryCreate(given.Tokens[0].Value, UriKind.Absolute, out var url) && url.Scheme is "http" or "https") return url;
            given.AddError($"--url: '{given.Tokens[0].Value}' is no address, such as http://127.0.0.1:8080.");
            return null;
        },
        Recursive = true,
    };

    private static readonly Option<string?> Token = new("--token")
    {
        Description = "The admin token. Others on this machine can read it in the list of processes; the environment variable Api__AdminToken or the file are safer.",
        DefaultValueFactory = _ => Environment.GetEnvironmentVariable("Api__AdminToken"),
        Recursive = true,
    };

    private static readonly Option<string> TokenFile = new("--token-file")
    {
        Description = "Where the admin token lies.",
        DefaultValueFactory = _ => Path.Combine("data", "admin-token"),
        Recursive = true,
    };

    private static readonly Argument<string> Address = new("address") { Description = "host:port of the member, as 'cluster show' prints it." };

    public static Command Create()
    {
        var show = new Command("show", "Lists the members, oldest first.");
        show.SetAction((given, cancel) => AskAsync(given, HttpMethod.Get, "", Members, cancel));
        var shards = new Command("shards", "Lists the shards of every node and how many entities are awake in each.");
        shards.SetAction((given, cancel) => AskAsync(given, HttpMethod.Get, "/shards", Shards, cancel));
        var down = new Command("down", "Takes a member out that is unreachable and will not come back.") { Address };
        down.SetAction((given, cancel) => AskAsync(given, HttpMethod.Post, "/down", _ => [[$"{given.GetValue(Address)} will be taken out."]], cancel));
        var leave = new Command("leave", "Lets a member hand its work over and leave.") { Address };
        leave.SetAction((given, cancel) => AskAsync(given, HttpMethod.Post, "/leave", _ => [[$"{given.GetValue(Address)} will leave."]], cancel));
        return new Command("cluster", "Shows the cluster, or takes a member out of it.") { Url, Token, TokenFile, show, shards, down, leave };
    }

    private static async Task<int> AskAsync(ParseResult given, HttpMethod method, string path, Func<JsonElement, string[][]> table, CancellationToken cancel)
    {
        var (output, errors) = (given.InvocationConfiguration.Output, given.InvocationConfiguration.Error);
        var (url, file) = (given.GetRequiredValue(Url), given.GetRequiredValue(TokenFile));
        if (given.GetValue(Token) is not { Length: > 0 } token)
        {
            try
            {
                token = (await File.ReadAllTextAsync(file, cancel)).Trim();
            }
            catch (Exception cause) when (cause is IOException or UnauthorizedAccessException)
            {
                await errors.WriteLineAsync($"The admin token cannot be read: {cause.Message} Give --token or --token-file, or set Api__AdminToken.");
                return 1;
            }
        }

        try
        {
            using var http = new HttpClient { Timeout = Patience };
            using var request = new HttpRequestMessage(method, new Uri(url, "/admin/cluster" + path));
            request.Headers.Add("X-Auth-Token", token);
            if (method == HttpMethod.Post) request.Content = JsonContent.Create(new { address = given.GetValue(Address) });
            using var response = await http.SendAsync(request, cancel);
            var body = await response.Content.ReadFromJsonAsync<JsonElement>(cancel);
            if (response.IsSuccessStatusCode)
            {
                await WriteAsync(output, table(body));
                return 0;
            }

            await errors.WriteLineAsync(body.GetProperty("error_msg").GetString());
            return 1;
        }
        catch (Exception cause) when (cause is HttpRequestException or JsonException or InvalidOperationException or KeyNotFoundException || (cause is OperationCanceledException && !cancel.IsCancellationRequested))
        {
            await errors.WriteLineAsync($"{url} does not answer as a node does: {cause.Message}");
            return 1;
        }
    }

    private static string[][] Members(JsonElement body) =>
    [
        ["ADDRESS", "STATUS", "ROLES", "VERSION", "UNREACHABLE BY", ""],
        .. body.GetProperty("members").EnumerateArray().Select(m => new[]
        {
            Text(m, "address"), Text(m, "status"), Texts(m, "roles"), Text(m, "app_version"), Texts(m, "unreachable_by"),
            string.Join(", ", new[] { ("leader", "leader"), ("oldest", "oldest"), ("self", "this node") }.Where(f => m.GetProperty(f.Item1).GetBoolean()).Select(f => f.Item2)),
        }),
    ];

    // A row per node first, then one per shard that has somebody awake: two hundred lines of nothing would hide it.
    private static string[][] Shards(JsonElement body) =>
    [
        ["ADDRESS", "TYPE", "SHARDS", "ENTITIES", "UNANSWERED"],
        .. body.GetProperty("regions").EnumerateArray().Select(r => new[]
        {
            Text(r, "address"), Text(r, "type"), $"{r.GetProperty("shards").GetArrayLength()}", $"{r.GetProperty("shards").EnumerateArray().Sum(Entities)}", Texts(r, "unanswered"),
        }),
        [],
        ["ADDRESS", "TYPE", "SHARD", "ENTITIES"],
        .. body.GetProperty("regions").EnumerateArray().SelectMany(
            r => r.GetProperty("shards").EnumerateArray().Where(s => Entities(s) > 0), (r, s) => new[] { Text(r, "address"), Text(r, "type"), Text(s, "shard"), $"{Entities(s)}" }),
    ];

    private static int Entities(JsonElement shard) => shard.GetProperty("entities").GetInt32();

    private static string Text(JsonElement item, string name) => item.GetProperty(name).GetString()!;

    private static string Texts(JsonElement item, string name) => string.Join(",", item.GetProperty(name).EnumerateArray().Select(t => t.GetString()));

    private static async Task WriteAsync(TextWriter output, string[][] rows)
    {
        var widths = Enumerable.Range(0, rows.Max(r => r.Length)).Select(i => rows.Max(r => i < r.Length ? r[i].Length : 0)).ToArray();
        foreach (var row in rows) await output.WriteLineAsync(string.Join("  ", row.Select((cell, i) => cell.PadRight(widths[i]))).TrimEnd());
    }
}
