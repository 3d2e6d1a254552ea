using System.Reflection;
using System.Runtime.CompilerServices;
using System.Xml.Linq;
using Google.Protobuf;

namespace IoTDelivery.Host.Tests;

/// <summary>The drawing of the house in docs/ARCHITECTURE.md, as a test. Each message names the better way.</summary>
public sealed class HouseSpec
{
    private static readonly string Root = FindRoot();

    // Who may stand on whom, straight from the drawing.
    private static readonly Dictionary<string, string[]> Drawing = new()
    {
        ["Domain"] = [],
        ["Storage"] = [],
        ["Devices"] = ["Domain", "Storage"],
        ["Registry"] = ["Domain", "Storage"],
        ["Mqtt"] = ["Devices", "Registry"],
        ["Push"] = ["Devices", "Registry"],
        ["Batch"] = ["Devices", "Registry"],
        ["Host"] = ["Batch", "Devices", "Mqtt", "Push", "Registry"],
    };

    public static TheoryData<string> Boxes => [.. Drawing.Keys];

    [Theory]
    [MemberData(nameof(Boxes))]
    public void Arrows_point_down(string box)
    {
        var project = XDocument.Load(Path.Combine(Root, $"src/IoTDelivery.{box}/IoTDelivery.{box}.csproj"));
        var references = project.Descendants("ProjectReference").Select(r => Path.GetFileNameWithoutExtension(r.Attribute("Include")!.Value)["IoTDelivery.".Length..]).Order();

        Assert.True(
            references.SequenceEqual(Drawing[box].Order()),
            $"{box} references {string.Join(", ", references)}; the drawing says {string.Join(", ", Drawing[box])}. If the arrow is needed, the box below should offer what is missing, or the drawing changes with a decision.");
    }

    [Fact]
    public void Every_project_is_in_the_drawing() => Assert.Equal(
        Drawing.Keys.Order(), Directory.GetDirectories(Path.Combine(Root, "src")).Select(d => Path.GetFileName(d)["IoTDelivery.".Length..]).Order());

    [Fact]
    public void The_domain_has_no_clock_no_chance_no_io_and_no_package()
    {
        string[] forbidden = ["UtcNow", "DateTime.Now", "Stopwatch", "new Random", "Random.Shared", "Guid.NewGuid", "System.IO", "System.Net", "HttpClient", "Task.", "async ", "Thread", "Console."];
        foreach (var file in Directory.GetFiles(Path.Combine(Root, "src/IoTDelivery.Domain"), "*.cs"))
        {
            var code = File.ReadAllText(file);
            foreach (var word in forbidden)
            {
                Assert.False(code.Contains(word, StringComparison.Ordinal), $"{Path.GetFileName(file)} contains '{word}'. Time and chance are arguments of the domain; whoever calls it hands them in.");
            }
        }

        Assert.DoesNotContain("PackageReference", File.ReadAllText(Path.Combine(Root, "src/IoTDelivery.Domain/IoTDelivery.Domain.csproj")));
    }

    [Fact]
    public void Only_the_storage_box_knows_which_databases_there_are()
    {
        foreach (var box in Drawing.Keys.Where(b => b != "Storage"))
        {
            var project = File.ReadAllText(Path.Combine(Root, $"src/IoTDelivery.{box}/IoTDelivery.{box}.csproj"));
            Assert.False(project.Contains("Npgsql") || project.Contains("SqlClient") || project.Contains("Data.Sqlite"), $"{box} references a database driver; let SqlDatabase or SqlDialect say what differs.");
        }
    }

    [Fact]
    public void The_root_holds_what_the_drawing_shows_and_nothing_else()
    {
        string[] known =
        [
            "src", "tests", "deploy", "docker", "docs", ".ci", ".github", ".git", ".gitattributes", ".gitignore", ".editorconfig", ".dockerignore", "akka.hocon", "build.sh", "CHANGELOG.md", "CONTRIBUTING.md",
            "Directory.Build.props", "Directory.Packages.props", "global.json", "IoTDelivery.Akka.sln", "LICENSE", "README.md",
        ];
        string[] ownFolders = ["data", "artifacts", "TestResults", ".vs", ".idea"]; // ignored by git
        var odd = Directory.GetFileSystemEntries(Root).Select(e => Path.GetFileName(e)!).Except(known).Except(ownFolders).ToList();

        Assert.True(odd.Count == 0, $"In the root, but not in the drawing: {string.Join(", ", odd)}. Plans, notes and drafts live elsewhere.");
        Assert.All(new[] { "src", "tests", "deploy", "docker", "docs", "IoTDelivery.Akka.sln", "akka.hocon", "README.md" }, e => Assert.True(Path.Exists(Path.Combine(Root, e)), $"{e} is missing."));
    }

    [Fact]
    public void No_class_has_more_fields_than_a_reader_can_hold()
    {
        var wide = Drawing.Keys
            .Select(box => Assembly.Load($"IoTDelivery.{box}"))
            .SelectMany(assembly => assembly.GetTypes())
            .Where(type => !IsGenerated(type) && !IsData(type))
            .Select(type => (type.FullName, Fields: FieldsOf(type).Length))
            .Where(type => type.Fields > FieldsMax)
            .OrderByDescending(type => type.Fields)
            .ToList();

        Assert.True(
            wide.Count == 0,
            $"More than {FieldsMax} fields, captured constructor parameters included: {string.Join(", ", wide)}. What belongs together becomes a value or a class of its own, tested without the shell.");
    }

    private const int FieldsMax = 16;

    private static FieldInfo[] FieldsOf(Type type) =>
        type.GetFields(BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.DeclaredOnly);

    // Closures, state machines and what protoc wrote.
    private static bool IsGenerated(Type type) =>
        type.Name.Contains('<') || type.IsDefined(typeof(CompilerGeneratedAttribute)) || typeof(IMessage).IsAssignableFrom(type)
        || (type.DeclaringType is { } outer && IsGenerated(outer));

    // Settings, rows and messages: nothing but properties.
    private static bool IsData(Type type) => FieldsOf(type).All(field => field.IsDefined(typeof(CompilerGeneratedAttribute)) && field.Name[0] == '<' && field.Name.EndsWith("k__BackingField"));

    internal static string FindRoot()
    {
        var folder = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(folder.FullName, "IoTDelivery.Akka.sln"))) folder = folder.Parent!;
        return folder.FullName;
    }
}
