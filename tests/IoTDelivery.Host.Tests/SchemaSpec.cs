using System.Text.RegularExpressions;
using IoTDelivery.Storage;
using Microsoft.Extensions.DependencyInjection;

namespace IoTDelivery.Host.Tests;

/// <summary>The scripts of deploy/sql are what the program prints, and hold every step a node takes.</summary>
public sealed partial class SchemaSpec(RunningPlatform platform) : IClassFixture<RunningPlatform>
{
    [Theory]
    [InlineData(DatabaseProvider.Sqlite)]
    [InlineData(DatabaseProvider.PostgreSql)]
    [InlineData(DatabaseProvider.SqlServer)]
    public async Task The_script_in_deploy_sql_is_what_the_program_prints(DatabaseProvider provider)
    {
        var file = Path.Combine(HouseSpec.FindRoot(), $"deploy/sql/{provider.ToString().ToLowerInvariant()}.sql");

        var printed = await PrintedAsync(provider);

        Assert.True(printed == await File.ReadAllTextAsync(file), $"{file} is not what `schema --provider {provider}` prints: print it again.");
    }

    [Theory]
    [InlineData(DatabaseProvider.Sqlite)]
    [InlineData(DatabaseProvider.PostgreSql)]
    [InlineData(DatabaseProvider.SqlServer)]
    public async Task The_script_holds_every_step_of_a_running_node_and_no_name_that_was_not_written_out(DatabaseProvider provider)
    {
        var script = await PrintedAsync(provider);

        Assert.Equal(
            platform.Services.GetServices<Migration>().Select(m => $"{m.Box} {m.Version}").Order(),
            Section().Matches(script).Select(m => m.Groups[1].Value).Order());
        Assert.DoesNotMatch(@"[{}]", script);
        Assert.Equal(script.Count(c => c == '('), script.Count(c => c == ')'));
    }

    [Fact]
    public async Task All_three_make_the_same_tables_and_indexes()
    {
        var names = await Task.WhenAll(Enum.GetValues<DatabaseProvider>().Select(async p => string.Join('\n', Created().Matches(await PrintedAsync(p)).Select(m => m.Groups[1].Value))));

        Assert.Contains("journal", names[0].Split('\n'));
        Assert.Single(names.Distinct());
    }

    [Fact]
    public async Task An_unknown_database_is_refused()
    {
        var errors = new StringWriter();

        Assert.Equal(1, await Commands.RunAsync(["schema", "--provider", "Oracle"], new StringWriter(), errors));
        Assert.Contains("Oracle", errors.ToString());
    }

    private static async Task<string> PrintedAsync(DatabaseProvider provider)
    {
        var output = new StringWriter();
        Assert.Equal(0, await Commands.RunAsync(["schema", "--provider", $"{provider}"], output, new StringWriter()));
        return output.ToString();
    }

    [GeneratedRegex(@"(?m)^-- ([\w-]+ \d+)$")]
    private static partial Regex Section();

    [GeneratedRegex(@"(?m)^create (?:unique )?(?:table|index) (\w+)")]
    private static partial Regex Created();
}
