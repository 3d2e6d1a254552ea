using System.Diagnostics;
using System.Reflection;
using System.Text.RegularExpressions;
using IoTDelivery.Batch;
using IoTDelivery.Devices;
using IoTDelivery.Devices.Reminders;
using IoTDelivery.Domain;
using IoTDelivery.Host.Api;
using IoTDelivery.Mqtt;
using IoTDelivery.Push;
using IoTDelivery.Storage;
using YamlDotNet.RepresentationModel;

namespace IoTDelivery.Host.Tests;

/// <summary>What stands in deploy and docker, as far as a machine without a container engine can tell: it parses, it goes together, and it speaks of what the program has.</summary>
public sealed partial class DeployFilesSpec(RunningPlatform platform) : IClassFixture<RunningPlatform>
{
    private static readonly string Root = HouseSpec.FindRoot();

    private static readonly Dictionary<string, Type> Sections = new()
    {
        ["Storage"] = typeof(StorageOptions),
        ["Api"] = typeof(ApiOptions),
        ["Mqtt"] = typeof(MqttOptions),
        ["Amqp"] = typeof(AmqpOptions),
        ["Tls"] = typeof(TlsOptions),
        ["Proxy"] = typeof(ProxyOptions),
        ["Cluster"] = typeof(ClusterSettings),
        ["Delivery"] = typeof(DeliveryPolicy),
        ["Devices"] = typeof(DeviceOptions),
        ["Push"] = typeof(PushOptions),
        ["Reminders"] = typeof(ReminderOptions),
        ["Batch"] = typeof(BatchOptions),
    };

    private static IEnumerable<string> Files => new[] { "deploy", "docker" }.SelectMany(d => Directory.EnumerateFiles(Path.Combine(Root, d), "*", SearchOption.AllDirectories));

    [Fact]
    public void Every_YAML_file_parses()
    {
        var files = Files.Where(f => f.EndsWith(".yaml")).ToList();

        Assert.True(files.Count >= 5, string.Join('\n', files));
        Assert.All(files, f => Assert.NotEmpty(Documents(File.ReadAllText(f))));
    }

    [Fact]
    public void Every_setting_named_in_the_files_and_in_the_page_about_clusters_is_one_of_the_program_and_documented()
    {
        var documented = File.ReadAllText(Path.Combine(Root, "docs/SETTINGS.md"));
        var texts = Files.Append(Path.Combine(Root, "docs/CLUSTER.md")).Append(Path.Combine(Root, "README.md")).Select(f => (File: Path.GetRelativePath(Root, f), Text: File.ReadAllText(f)));
        var named = texts.SelectMany(t => Environment().Matches(t.Text).Concat(CommandLine().Matches(t.Text)).Select(m => (t.File, Names: m.Groups[1].Value.Split("__").SelectMany(n => n.Split(':')).ToArray()))).ToList();

        Assert.Contains(named, n => n.Names is ["Cluster", "SeedNodes", "2"]);
        Assert.Contains(named, n => n.Names is ["Storage", "CreateTables"]);
        foreach (var (file, names) in named)
        {
            var type = Sections.GetValueOrDefault(names[0]);
            foreach (var name in names[1..])
            {
                Assert.True(type is not null, $"{file} names {string.Join(':', names)}, which is no setting.");
                type = int.TryParse(name, out _) ? type.GetElementType() : type.GetProperty(name, BindingFlags.Public | BindingFlags.Instance)?.PropertyType;
            }

            Assert.True(type is not null, $"{file} names {string.Join(':', names)}, which is no setting.");
            Assert.True(documented.Contains($"`{names[0]}:{names[1]}"), $"{file} names {string.Join(':', names)}, which docs/SETTINGS.md does not.");
        }
    }

    [Fact]
    public void The_nodes_of_the_containers_know_each_other_and_haproxy_knows_all_of_them()
    {
        var compose = (YamlMappingNode)Documents(Read("docker/compose.yaml")).Single();
        var services = (YamlMappingNode)compose["services"];
        var nodes = services.Children.Keys.Select(k => k.ToString()).Where(n => n.StartsWith("node")).ToList();
        var settings = (YamlMappingNode)compose["x-settings"];

        Assert.Equal(3, nodes.Count);
        Assert.Equal(nodes.Select(n => $"{n}:{ClusterSettings.DefaultPort}"), Enumerable.Range(0, 3).Select(i => settings[$"Cluster__SeedNodes__{i}"].ToString()));
        Assert.All(nodes, n => Assert.Equal(n, services[n]["environment"]["Cluster__Hostname"].ToString()));
        var servers = Server().Matches(Read("docker/haproxy.cfg")).Select(m => (Name: m.Groups[1].Value, Address: m.Groups[2].Value)).ToList();
        Assert.Equal(nodes.Select(n => (n, $"{n}:8080")).Concat(nodes.Select(n => (n, $"{n}:1883"))), servers);
    }

    // One without the other: no device is let in, or anybody says where he is.
    [Fact]
    public void What_haproxy_says_of_clients_the_nodes_of_the_containers_believe()
    {
        var haproxy = Read("docker/haproxy.cfg");
        var compose = (YamlMappingNode)Documents(Read("docker/compose.yaml")).Single();
        var settings = (YamlMappingNode)compose["x-settings"];
        var trusted = new ProxyOptions
        {
            TrustedAddresses =
            [
                settings["Proxy__TrustedAddresses__0"].ToString(),
                settings["Proxy__TrustedAddresses__1"].ToString(),
            ],
        };

        Assert.Equal(3, Regex.Count(haproxy, @"(?m)^  server node\d node\d:1883 .*\bsend-proxy-v2$"));
        Assert.Contains("\n  option forwardfor\n", haproxy);
        Assert.Equal(
            ("true", "true"),
            (settings["Mqtt__ProxyProtocol"].ToString(), settings["Api__ForwardedHeaders"].ToString()));
        Assert.True(TrustedProxies.Read(trusted, "the test").Contains(System.Net.IPAddress.Parse("172.18.0.7")));
    }

    [Fact]
    public void What_stops_a_node_waits_longer_than_a_node_takes_to_leave()
    {
        var compose = (YamlMappingNode)Documents(Read("docker/compose.yaml")).Single();
        var pods = Documents(Read("deploy/kubernetes/statefulset.yaml")).Single()["spec"]["template"]["spec"];

        Assert.True(int.Parse(compose["x-node"]["stop_grace_period"].ToString().TrimEnd('s')) > 30);
        Assert.True(int.Parse(pods["terminationGracePeriodSeconds"].ToString()) > 30 + 5);
        Assert.True(int.Parse(Regex.Match(Read("deploy/systemd/iotdelivery.service"), @"(?m)^TimeoutStopSec=(\d+)$").Groups[1].Value) > 30);
    }

    [Fact]
    public async Task The_health_check_of_the_image_tells_a_node_that_is_ready_from_one_that_is_not()
    {
        var check = Regex.Match(Read("docker/Dockerfile"), @"(?s)HEALTHCHECK.*?CMD (\[.*?\])\n").Groups[1].Value;
        var command = System.Text.Json.JsonSerializer.Deserialize<string[]>(check)!;
        var port = platform.Http.BaseAddress!.Port;

        Assert.Equal(0, await ExitCodeAsync(port));
        Assert.NotEqual(0, await ExitCodeAsync(1));

        async Task<int> ExitCodeAsync(int at)
        {
            using var process = Process.Start(new ProcessStartInfo(command[0], command[1..].Select(a => a.Replace("/8080", $"/{at}"))) { RedirectStandardError = true })!;
            await process.WaitForExitAsync();
            return process.ExitCode;
        }
    }

    [Fact]
    public void What_the_Dockerfile_copies_and_starts_is_there()
    {
        var text = Read("docker/Dockerfile");

        Assert.True(Directory.Exists(Path.Combine(Root, "src/IoTDelivery.Host")) && text.Contains("dotnet publish src/IoTDelivery.Host "));
        Assert.True(File.Exists(Path.Combine(Root, "docker/iotdelivery")) && text.Contains("COPY docker/iotdelivery "));
        Assert.Contains($"/app/{typeof(Platform).Assembly.GetName().Name}.dll\"]", text);
        Assert.Contains("USER $APP_UID", text);
    }

    [SkippableFact]
    public async Task Kustomize_renders_three_nodes_whose_names_are_the_seed_nodes()
    {
        var kubectl = "/usr/bin:/usr/local/bin:/snap/bin".Split(':').Select(d => Path.Combine(d, "kubectl")).FirstOrDefault(File.Exists);
        Skip.If(kubectl is null, "kubectl is not installed.");
        using var process = Process.Start(new ProcessStartInfo(kubectl, ["kustomize", Path.Combine(Root, "deploy/kubernetes")]) { RedirectStandardOutput = true, RedirectStandardError = true })!;
        var errors = process.StandardError.ReadToEndAsync();
        var rendered = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        Assert.True(process.ExitCode == 0, await errors);

        var objects = Documents(rendered).ToDictionary(o => $"{o["kind"]} {o["metadata"]["name"].ToString().Split('-', 2)[0]}{(o["kind"].ToString() == "Service" ? "-" + o["metadata"]["name"].ToString().Split('-', 2)[1] : "")}");
        var set = objects["StatefulSet iotdelivery"]["spec"];
        var container = ((YamlSequenceNode)set["template"]["spec"]["containers"]).Single();
        var environment = ((YamlSequenceNode)container["env"]).Where(e => ((YamlMappingNode)e).Children.ContainsKey("value")).ToDictionary(e => e["name"].ToString(), e => e["value"].ToString());
        var nodes = set["serviceName"].ToString();
        Assert.Equal(
            Enumerable.Range(0, int.Parse(set["replicas"].ToString())).Select(i => $"iotdelivery-{i}.{nodes}:{ClusterSettings.DefaultPort}"),
            environment.Where(e => e.Key.StartsWith("Cluster__SeedNodes__")).Select(e => e.Value));
        Assert.Equal($"$(POD_NAME).{nodes}", environment["Cluster__Hostname"]);
        Assert.Null(new ClusterSettings { SeedNodes = [.. environment.Where(e => e.Key.StartsWith("Cluster__SeedNodes__")).Select(e => e.Value)] }.Problem());
        Assert.Equal("true", objects[$"Service {nodes}"]["spec"]["publishNotReadyAddresses"].ToString());
        Assert.Equal("/health/ready", container["readinessProbe"]["httpGet"]["path"].ToString());
        Assert.Equal("/health/live", container["livenessProbe"]["httpGet"]["path"].ToString());
        Assert.Equal("1", objects["PodDisruptionBudget iotdelivery"]["spec"]["maxUnavailable"].ToString());
        Assert.Equal(objects["Secret iotdelivery"]["metadata"]["name"].ToString(), ((YamlSequenceNode)container["envFrom"]).Single()["secretRef"]["name"].ToString());
        foreach (var selected in new[] { set["selector"]["matchLabels"], objects["Service iotdelivery-rest"]["spec"]["selector"], objects["PodDisruptionBudget iotdelivery"]["spec"]["selector"]["matchLabels"] })
        {
            Assert.Equal(set["template"]["metadata"]["labels"]["app.kubernetes.io/name"], selected["app.kubernetes.io/name"]);
        }
    }

    private static string Read(string file) => File.ReadAllText(Path.Combine(Root, file));

    private static List<YamlNode> Documents(string text)
    {
        var yaml = new YamlStream();
        yaml.Load(new StringReader(text));
        return [.. yaml.Documents.Select(d => d.RootNode)];
    }

    [GeneratedRegex("\\b((?:[A-Z][A-Za-z]+)__[A-Za-z0-9_]+)")]
    private static partial Regex Environment();

    [GeneratedRegex("(?:--|`|\\()([A-Z][A-Za-z]+:[A-Z][A-Za-z]+(?::[0-9]+)?)(?=[=`])")]
    private static partial Regex CommandLine();

    [GeneratedRegex(@"(?m)^  server (\S+) (\S+)(?: port 8080 send-proxy-v2)?$")]
    private static partial Regex Server();
}
