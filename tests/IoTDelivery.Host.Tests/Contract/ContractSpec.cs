using System.Text.RegularExpressions;
using IoTDelivery.Host.Api.Documentation;

namespace IoTDelivery.Host.Tests.Contract;

/// <summary>
/// The contract is a set of files: request and response of every operation. A file that no longer fits means that applications notice something. If that is meant, run with
/// IOTDELIVERY_GOLDEN=write and read the difference.
/// </summary>
public sealed class ContractSpec(ContractPlatform platform) : IClassFixture<ContractPlatform>
{
    private static readonly string Folder = Path.Combine(HouseSpec.FindRoot(), "tests/IoTDelivery.Host.Tests/Contract/golden");

    [Fact]
    public void Every_operation_is_requested_and_answered_as_its_golden_file_says()
    {
        if (Environment.GetEnvironmentVariable("IOTDELIVERY_GOLDEN") == "write")
        {
            foreach (var (name, wire) in platform.Steps) File.WriteAllText(FileOf(name), wire);
        }

        var differences = platform.Steps.Where(s => !File.Exists(FileOf(s.Key)) || File.ReadAllText(FileOf(s.Key)) != s.Value).ToList();
        Assert.True(differences.Count == 0, string.Join("\n\n", differences.Select(d => $"{d.Key}.txt does not say what happened:\n{d.Value}")));
    }

    [Fact]
    public void No_golden_file_is_left_over() =>
        Assert.Equal(platform.Steps.Keys.Order(StringComparer.Ordinal), Directory.GetFiles(Folder).Select(f => Path.GetFileNameWithoutExtension(f)).Order(StringComparer.Ordinal));

    [Fact]
    public void Every_operation_of_the_API_has_one()
    {
        foreach (var operation in Operations.Table.Keys)
        {
            var (method, path) = (operation.Split(' ')[0], operation.Split(' ')[1]);
            var pattern = "^" + Regex.Replace(Regex.Escape(path), @"\\\{[^}]+}", "[^/]+") + "$";
            Assert.True(platform.Called.Any(c => c.Method == method && Regex.IsMatch(c.Path, pattern)), $"{operation} is in no step of ContractPlatform.");
        }
    }

    private static string FileOf(string name) => Path.Combine(Folder, $"{name}.txt");
}
