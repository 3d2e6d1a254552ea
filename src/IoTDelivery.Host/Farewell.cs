using Akka.Actor;
using Akka.Cluster;

namespace IoTDelivery.Host;

/// <summary>
/// The first thing a node of a cluster does when it is told to stop: it says so in every answer. Kestrel closes a connection between two requests also when the next one is
/// under way already, and an application cannot know whether that one was taken. So for a moment every answer carries <c>Connection: close</c>, applications leave by
/// themselves, balancers see that the node is not ready, and only then it stops listening.
/// </summary>
public sealed class Farewell(ActorSystem system) : IHostedLifecycleService
{
    /// <summary>How long. Connections without a request in this time are closed in silence.</summary>
    public static readonly TimeSpan Duration = TimeSpan.FromSeconds(2);

    /// <summary>True since the node was told to stop.</summary>
    public bool IsLeaving { get; private set; }

    /// <summary>Adds the word to every answer while the node is leaving.</summary>
    public static Task SayAsync(HttpContext http, RequestDelegate next)
    {
        if (http.RequestServices.GetRequiredService<Farewell>().IsLeaving) http.Response.Headers.Connection = "close";
        return next(http);
    }

    public async Task StoppingAsync(CancellationToken cancellationToken)
    {
        IsLeaving = true;
        var cluster = Cluster.Get(system);
        var isAlone = cluster.State.Members.All(m => m.UniqueAddress.Equals(cluster.SelfUniqueAddress) || m.Status != MemberStatus.Up);
        if (!isAlone) await Task.Delay(Duration, cancellationToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }

    public Task StartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StartingAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StartedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StoppedAsync(CancellationToken cancellationToken) => Task.CompletedTask;
}
