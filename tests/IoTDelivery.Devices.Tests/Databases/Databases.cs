using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using IoTDelivery.Storage;
using Microsoft.Data.Sqlite;
using Npgsql;
using Testcontainers.MsSql;

namespace IoTDelivery.Tests.Databases;

/// <summary>A database server for tests. One behaviour runs on every one of them.</summary>
public abstract class TestDatabase : IAsyncLifetime
{
    /// <summary>Why it cannot be had here; null if it can.</summary>
    public string? SkipReason { get; protected set; }

    /// <summary>A new, empty database on it.</summary>
    public abstract Task<StorageOptions> CreateAsync();

    public abstract Task InitializeAsync();

    public abstract Task DisposeAsync();
}

/// <summary>SQLite: a file in a folder of its own.</summary>
public sealed class SqliteDatabase : TestDatabase
{
    private readonly string _folder = Directory.CreateTempSubdirectory("iotdelivery-test-").FullName;
    private int _count;

    public override Task<StorageOptions> CreateAsync() => Task.FromResult(new StorageOptions { DataFolder = Path.Combine(_folder, $"{Interlocked.Increment(ref _count)}") });

    public override Task InitializeAsync() => Task.CompletedTask;

    public override Task DisposeAsync()
    {
        SqliteConnection.ClearAllPools();
        Directory.Delete(_folder, recursive: true);
        return Task.CompletedTask;
    }
}

/// <summary>A real PostgreSQL from Debian's server binaries: a cluster of its own on a free port, as the user postgres when we are root, with fsync on.</summary>
public sealed class PostgreSqlDatabase : TestDatabase
{
    private const int SigCont = 18, SigStop = 19;

    private string _folder = "";
    private string _binaries = "";
    private int _count;

    public int Port { get; private set; }

    /// <summary>Where it listens; everybody of that network may log in.</summary>
    public string Address { get; init; } = "127.0.0.1";

    public override async Task InitializeAsync()
    {
        _binaries = Directory.Exists("/usr/lib/postgresql")
            ? Directory.GetDirectories("/usr/lib/postgresql").OrderByDescending(d => int.Parse(Path.GetFileName(d))).Select(d => Path.Combine(d, "bin"))
                .FirstOrDefault(d => File.Exists(Path.Combine(d, "initdb"))) ?? ""
            : "";
        if (_binaries.Length == 0)
        {
            SkipReason = "PostgreSQL's server binaries are not installed (apt-get install postgresql).";
            return;
        }

        _folder = Directory.CreateTempSubdirectory("iotdelivery-pg-").FullName;
        if (Environment.UserName == "root") await RunAsync("chown", "postgres", _folder);
        await AsServerAsync("initdb", "-D", $"{_folder}/data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale");
        if (Address != "127.0.0.1") await File.AppendAllLinesAsync($"{_folder}/data/pg_hba.conf", ["host all all samenet trust"]);
        Port = Ports.Take();
        await StartAsync();
    }

    public override async Task<StorageOptions> CreateAsync()
    {
        var name = $"test{Interlocked.Increment(ref _count)}";
        await using var connection = new NpgsqlConnection(ConnectionString("postgres"));
        await connection.OpenAsync();
        await using var create = new NpgsqlCommand($"create database {name}", connection);
        await create.ExecuteNonQueryAsync();
        return new StorageOptions { Provider = DatabaseProvider.PostgreSql, ConnectionString = ConnectionString(name), DataFolder = $"{Path.GetTempPath()}/iotdelivery-pg-data-{Port}-{name}" };
    }

    /// <summary>Starts the server and waits until it answers.</summary>
    public Task StartAsync() => AsServerAsync(
        "pg_ctl", "-D", $"{_folder}/data", "-l", $"{_folder}/log", "-w", "-t", "60", "-o",
        $"-c listen_addresses={Address} -c port={Port} -c unix_socket_directories={_folder} -c fsync=on -c max_connections=200", "start");

    /// <summary>Stops it: <c>immediate</c> as a power cut would, <c>fast</c> as an operator does.</summary>
    public Task StopAsync(string mode = "immediate") => AsServerAsync("pg_ctl", "-D", $"{_folder}/data", "-m", mode, "-w", "stop");

    /// <summary>No process of it runs any more; connections stay, and nobody is answered.</summary>
    public void Freeze()
    {
        _ = kill(FirstProcess, SigStop); // it makes no others from here on
        foreach (var pid in Children()) _ = kill(pid, SigStop);
    }

    /// <summary>Goes on after <see cref="Freeze"/>.</summary>
    public void Thaw()
    {
        foreach (var pid in Children()) _ = kill(pid, SigCont);
        _ = kill(FirstProcess, SigCont);
    }

    /// <summary>
    /// From here on a commit waits, on the disk and unanswered, for a standby that does not exist.
    /// <see cref="StopWriterAsync"/> or <see cref="StopMidCommitAsync"/> ends that.
    /// </summary>
    public async Task HoldCommitsAsync(string connectionString)
    {
        await using var db = new NpgsqlConnection(connectionString + ";Pooling=false");
        await db.OpenAsync();
        await ExecuteAsync(db, "alter system set synchronous_standby_names = 'absent'");
        await ReloadAsync(db);
    }

    /// <summary>
    /// Stops one process that writes a journal, after <see cref="HoldCommitsAsync"/>: it has not answered, its locks
    /// stay, the others write on. Tells which, for <see cref="Continue"/>.
    /// </summary>
    public async Task<int> StopWriterAsync(string connectionString, TimeSpan patience)
    {
        await using var db = new NpgsqlConnection(connectionString + ";Pooling=false");
        await db.OpenAsync();
        var writers = await WaitingWritersAsync(db, patience);
        if (writers.Count > 0) _ = kill(writers[0], SigStop);
        await ForgetHoldAsync(db);
        await ReloadAsync(db); // what waits is answered, but for the one that does not run
        if (writers.Count == 0) throw new InvalidOperationException($"No process wrote a journal in {patience}.");
        return writers[0];
    }

    /// <summary>Lets a process of the server go on.</summary>
    public void Continue(int pid) => _ = kill(pid, SigCont);

    /// <summary>
    /// Stops the server while commits are on the disk and not answered yet: whoever wrote cannot know. Tells how many.
    /// </summary>
    public async Task<int> StopMidCommitAsync(string mode, string connectionString, TimeSpan patience)
    {
        await HoldCommitsAsync(connectionString);
        await using var db = new NpgsqlConnection(connectionString + ";Pooling=false");
        await db.OpenAsync();
        var waiting = await WaitingWritersAsync(db, patience);
        await ForgetHoldAsync(db); // at the next start
        await StopAsync(mode);
        return waiting.Count;
    }

    private int FirstProcess => int.Parse(File.ReadLines($"{_folder}/data/postmaster.pid").First());

    private IEnumerable<int> Children()
    {
        var first = FirstProcess;
        return Directory.GetDirectories("/proc").Select(d => Path.GetFileName(d)!).Where(IsChild).Select(int.Parse);

        // pid (name) state parent …; the name may contain anything
        bool IsChild(string pid)
        {
            if (!pid.All(char.IsAsciiDigit)) return false;
            try
            {
                var stat = File.ReadAllText($"/proc/{pid}/stat");
                return stat[(stat.LastIndexOf(')') + 2)..].Split(' ')[1] == $"{first}";
            }
            catch (IOException)
            {
                return false; // it has ended
            }
        }
    }

    // Not before a commit is seen to wait: a process of the server that reads its settings late would miss the hold.
    private static Task ForgetHoldAsync(NpgsqlConnection db) =>
        ExecuteAsync(db, "alter system reset synchronous_standby_names");

    private static Task ReloadAsync(NpgsqlConnection db) => ExecuteAsync(db, "select pg_reload_conf()");

    private static async Task ExecuteAsync(NpgsqlConnection db, string sql)
    {
        await using var command = new NpgsqlCommand(sql, db);
        await command.ExecuteNonQueryAsync();
    }

    // The processes whose commit of journal rows is held; none when nothing wrote for so long.
    private static async Task<List<int>> WaitingWritersAsync(NpgsqlConnection db, TimeSpan patience)
    {
        List<int> pids = [];
        for (var clock = Stopwatch.StartNew(); pids.Count == 0 && clock.Elapsed < patience;)
        {
            await Task.Delay(10); // PostgreSQL has no event for a commit that begins to wait
            await using var command = new NpgsqlCommand(
                """
                select pid from pg_stat_activity
                where datname = current_database() and wait_event = 'SyncRep' and query like '%insert into journal%'
                """, db);
            await using var reader = await command.ExecuteReaderAsync();
            while (await reader.ReadAsync()) pids.Add(reader.GetInt32(0));
        }

        return pids;
    }

    [DllImport("libc", SetLastError = true)]
    private static extern int kill(int pid, int signal);

    public override async Task DisposeAsync()
    {
        if (_folder.Length == 0) return;
        NpgsqlConnection.ClearAllPools();
        if (File.Exists($"{_folder}/data/postmaster.pid"))
        {
            Thaw(); // a test that failed may have left it frozen
            await StopAsync();
        }

        Directory.Delete(_folder, recursive: true);
    }

    private string ConnectionString(string database) => $"Host={Address};Port={Port};Username=postgres;Database={database};Maximum Pool Size=50;Timeout=5";

    private Task AsServerAsync(string program, params string[] arguments) => Environment.UserName == "root"
        ? RunAsync("setpriv", ["--reuid=postgres", "--regid=postgres", "--init-groups", Path.Combine(_binaries, program), .. arguments])
        : RunAsync(Path.Combine(_binaries, program), arguments);

    // pg_ctl's server keeps the pipes it was started with open, so the output goes to a file of its own, not to us.
    private async Task RunAsync(string program, params string[] arguments)
    {
        var start = new ProcessStartInfo("/bin/sh") { WorkingDirectory = _folder };
        start.ArgumentList.Add("-c");
        start.ArgumentList.Add("exec \"$0\" \"$@\" >\"$PG_OUTPUT\" 2>&1");
        start.ArgumentList.Add(program);
        foreach (var argument in arguments) start.ArgumentList.Add(argument);
        var output = Path.GetTempFileName();
        start.Environment["PG_OUTPUT"] = output;
        using var process = Process.Start(start)!;
        await process.WaitForExitAsync();
        var said = await File.ReadAllTextAsync(output);
        File.Delete(output);
        if (process.ExitCode != 0) throw new InvalidOperationException($"{program} {string.Join(' ', arguments)} ended with {process.ExitCode}: {said}");
    }
}

/// <summary>SQL Server from a container, where there is a Docker engine.</summary>
public sealed class SqlServerDatabase : TestDatabase
{
    private MsSqlContainer? _container;
    private int _count;

    public override async Task InitializeAsync()
    {
        if (!File.Exists("/var/run/docker.sock") && Environment.GetEnvironmentVariable("DOCKER_HOST") is null)
        {
            SkipReason = "There is no Docker engine here (no /var/run/docker.sock, no DOCKER_HOST); SQL Server runs from a container.";
            return;
        }

        _container = new MsSqlBuilder("mcr.microsoft.com/mssql/server:2022-latest").Build();
        await _container.StartAsync();
    }

    public override async Task<StorageOptions> CreateAsync()
    {
        var name = $"test{Interlocked.Increment(ref _count)}";
        await _container!.ExecScriptAsync($"create database {name}");
        var connection = new Microsoft.Data.SqlClient.SqlConnectionStringBuilder(_container.GetConnectionString()) { InitialCatalog = name };
        return new StorageOptions { Provider = DatabaseProvider.SqlServer, ConnectionString = connection.ToString(), DataFolder = $"{Path.GetTempPath()}/iotdelivery-mssql-{name}" };
    }

    public override async Task DisposeAsync()
    {
        if (_container is not null) await _container.DisposeAsync();
    }
}
