using System.Diagnostics;
using System.Text.Json;
using Microsoft.CodeAnalysis.CSharp;

namespace IoTDelivery.Host.Tests;

/// <summary>pbm is there for who asks for it, and nothing of it for who does not. Its packages cannot be had everywhere, so what is conditional is read, not built.</summary>
public sealed class PetabridgeCmdSpec
{
    private static readonly string Host = Path.Combine(HouseSpec.FindRoot(), "src/IoTDelivery.Host");

    [Theory]
    [InlineData("", false)]
    [InlineData("-p:PetabridgeCmd=true", true)]
    public async Task Its_packages_are_referenced_only_when_asked_for(string property, bool expected)
    {
        var start = new ProcessStartInfo("dotnet") { RedirectStandardOutput = true, WorkingDirectory = Host };
        foreach (var argument in new[] { "msbuild", "-getItem:PackageReference", "-getProperty:DefineConstants", property }.Where(a => a.Length > 0)) start.ArgumentList.Add(argument);
        using var msbuild = Process.Start(start)!;
        var printed = JsonDocument.Parse(await msbuild.StandardOutput.ReadToEndAsync()).RootElement;
        await msbuild.WaitForExitAsync();

        var packages = printed.GetProperty("Items").GetProperty("PackageReference").EnumerateArray().Select(p => p.GetProperty("Identity").GetString()!).Where(p => p.StartsWith("Petabridge"));
        Assert.Equal(expected ? ["Petabridge.Cmd.Cluster", "Petabridge.Cmd.Cluster.Sharding"] : [], packages);
        Assert.Equal(expected, printed.GetProperty("Properties").GetProperty("DefineConstants").GetString()!.Split(';').Contains("PETABRIDGE_CMD"));
    }

    [Fact]
    public void Nothing_of_it_is_in_a_plain_build() =>
        Assert.DoesNotContain(typeof(Platform).Assembly.GetReferencedAssemblies(), a => a.Name!.StartsWith("Petabridge"));

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void The_conditional_lines_are_right_either_way(bool isDefined)
    {
        var source = File.ReadAllText(Path.Combine(Host, "Admin/PetabridgeCmdHosting.cs"));

        var tree = CSharpSyntaxTree.ParseText(source, new CSharpParseOptions(preprocessorSymbols: isDefined ? ["PETABRIDGE_CMD"] : []));

        Assert.Empty(tree.GetDiagnostics());
        Assert.Equal(isDefined, tree.GetRoot().DescendantTokens().Any(t => t.ValueText == "AddPetabridgeCmd"));
    }
}
