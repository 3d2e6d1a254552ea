using Akka.Actor;
using Akka.Cluster;
using IoTDelivery.Devices;
using IoTDelivery.Devices.Membership;
using IoTDelivery.Host.Api;
using IoTDelivery.Storage;
using LinqToDB.Data;
using Microsoft.AspNetCore.Diagnostics.HealthChecks;
using Microsoft.Extensions.Diagnostics.HealthChecks;

namespace IoTDelivery.Host;

/// <summary>
/// What a load balancer, Kubernetes or Docker asks, without a login: <c>/health/live</c> (the process runs) and <c>/health/ready</c> (send this node work).
/// </summary>
public static class HealthHosting
{
    public static IServiceCollection AddHealth(this IServiceCollection services)
    {
        services.AddHealthChecks().AddCheck<ClusterHealth>("cluster").AddCheck<DatabaseHealth>("database");
        return services.AddSingleton<DatabasePulse>().AddHostedService(s => s.GetRequiredService<DatabasePulse>());
    }

    public static void MapHealth(this IEndpointRouteBuilder app)
    {
        // Not behind the limit of requests at once: a busy node is neither dead nor to be taken out.
        app.MapHealthChecks("/health/live", new HealthCheckOptions { Predicate = _ => false, ResponseWriter = WriteAsync }).DisableRateLimiting();
        app.MapHealthChecks("/health/ready", new HealthCheckOptions { ResponseWriter = WriteAsync }).DisableRateLimiting();
    }

    private static Task WriteAsync(HttpContext context, HealthReport report) => new JsonResult(context.Response.StatusCode, json =>
    {
        json.WriteStartObject();
        json.WriteString("status", report.Status.ToString());
        foreach (var (name, entry) in report.Entries) json.WriteString(name, entry.Description);
        json.WriteEndObject();
    }).ExecuteAsync(context);
}

/// <summary>Healthy while this node is an Up member and not on the side of a partition that will lose: it would answer every request with 503 then.</summary>
public sealed class ClusterHealth(ActorSystem system, Farewell farewell, Fencing fence) : IHealthCheck
{
    public Task<HealthCheckResult> CheckHealthAsync(HealthCheckContext context, CancellationToken cancellationToken = default)
    {
        if (farewell.IsLeaving) return Task.FromResult(HealthCheckResult.Unhealthy("This node is stopping."));
        var cluster = Cluster.Get(system);
        var status = cluster.IsTerminated ? MemberStatus.Removed : cluster.SelfMember.Status;
        var (all, unreachable) = (cluster.State.Members.Count, cluster.State.Unreachable.Count);
        return Task.FromResult(Of(status, all, unreachable, fence.IsOnLosingSide));
    }

    public static HealthCheckResult Of(MemberStatus status, int members, int unreachable, bool isOnLosingSide) =>
        status != MemberStatus.Up ? HealthCheckResult.Unhealthy($"This node is {status}, not Up.")
        : isOnLosingSide ? HealthCheckResult.Unhealthy($"Only {members - unreachable} of {members} members are reachable from here: the others go on without this node.")
        : HealthCheckResult.Healthy($"Up, {members - unreachable} of {members} members are reachable.");
}

/// <summary>
/// Healthy while the database answered lately, and stored something: a read-only standby and a full disk answer, too. What is
/// stored is this node's heartbeat, every two seconds.
/// </summary>
public sealed class DatabaseHealth(DatabasePulse pulse, ClusterNodes nodes) : IHealthCheck
{
    /// <summary>How old the newest heartbeat may be: longer than a database may stall.</summary>
    public static readonly TimeSpan StoredWithin = TimeSpan.FromSeconds(15);

    public Task<HealthCheckResult> CheckHealthAsync(HealthCheckContext context, CancellationToken cancellationToken = default) =>
        Task.FromResult((pulse.Problem ?? NotStored(nodes.SinceStored)) is { } problem
            ? HealthCheckResult.Unhealthy(problem)
            : HealthCheckResult.Healthy("The database answers."));

    private static string? NotStored(TimeSpan? since) => since > StoredWithin
        ? $"The database answers, but it has stored nothing for {since.Value.TotalSeconds:0} s: read-only, or no room on its disk?"
        : null;
}

/// <summary>Asks the database a small question every two seconds, so that any number of health requests cost it nothing.</summary>
public sealed class DatabasePulse(SqlDatabase database, TimeProvider clock) : BackgroundService
{
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(2), Patience = TimeSpan.FromSeconds(5);
    private long _answeredAt = clock.GetTimestamp(); // the start has just migrated it
    private volatile string _reason = "no answer";

    /// <summary>How old the newest answer may be. One missed pulse is no outage.</summary>
    public static readonly TimeSpan AgeMax = TimeSpan.FromSeconds(10);

    /// <summary>Why the database counts as away; null if it answered lately.</summary>
    public string? Problem => clock.GetElapsedTime(Volatile.Read(ref _answeredAt)) is var age && age <= AgeMax ? null : $"The database has not answered for {age.TotalSeconds:0} s: {_reason}";

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var timer = new PeriodicTimer(Interval, clock);
        while (await timer.WaitForNextTickAsync(stoppingToken)) await AskAsync(stoppingToken);
    }

    private async Task AskAsync(CancellationToken stopping)
    {
        using var patience = CancellationTokenSource.CreateLinkedTokenSource(stopping);
        patience.CancelAfter(Patience);
        try
        {
            await using var db = database.Open();
            await db.ExecuteAsync<int>("select 1", patience.Token);
            Volatile.Write(ref _answeredAt, clock.GetTimestamp());
        }
        catch (Exception cause) when (!stopping.IsCancellationRequested)
        {
            _reason = cause is OperationCanceledException ? $"no answer within {Patience.TotalSeconds:0} s" : cause.GetBaseException().Message;
        }
    }
}
