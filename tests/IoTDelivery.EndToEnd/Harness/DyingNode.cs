using System.Collections.Immutable;
using System.Runtime.InteropServices;
using Akka.Actor;
using Akka.Persistence;
using IoTDelivery.Devices;
using IoTDelivery.Devices.Journal;
using IoTDelivery.Devices.Reminders;
using IoTDelivery.Domain;
using IoTDelivery.Host;
using IoTDelivery.Push;
using IoTDelivery.Registry;
using IoTDelivery.Storage;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;

namespace IoTDelivery.EndToEnd.Harness;

/// <summary>The platform with parts that end the process by SIGKILL when it reaches a point for the nth time: <c>crash-at POINT N [settings]</c>.</summary>
public static class DyingNode
{
    private static string _point = "";
    private static int _left;

    /// <summary>This program.</summary>
    public static string Dll { get; } = typeof(DyingNode).Assembly.Location;

    public static async Task<int> Main(string[] args)
    {
        if (args is not ["crash-at", var point, var nth, .. var settings]) return 2;
        (_point, _left) = (point, int.Parse(nth));
        await using var app = Platform.Build([.. settings, $"--akka:persistence:journal:sql:class={typeof(Journal).FullName}, {typeof(Journal).Assembly.GetName().Name}"], Replace);
        await Platform.StartAsync(app);
        await app.WaitForShutdownAsync();
        return 0;
    }

    private static void Replace(IServiceCollection services) => services
        .AddSingleton<ReminderTable>(s => new Calls(s.GetRequiredService<SqlDatabase>(), s.GetRequiredService<JournalQueue>(), s.GetRequiredService<TimeProvider>()))
        .AddSingleton<Webhook>(s => new Hook(s.GetRequiredService<PushOptions>()))
        .AddSingleton<BacklogSignal>(new Signal())
        .AddSingleton<IStartupFilter>(new AfterReply())
        .AddHostedService<TollHouse>();

    // Nothing is flushed, closed or told: as a power cut would have it.
    private static void Reach(string point)
    {
        if (point != _point || Interlocked.Decrement(ref _left) != 0) return;
        kill(Environment.ProcessId, 9);
        Thread.Sleep(Timeout.Infinite); // the signal is on its way: this thread does nothing more
    }

    [DllImport("libc", SetLastError = true)]
    private static extern int kill(int pid, int signal);

    private sealed class Calls(SqlDatabase database, JournalQueue queue, TimeProvider clock) : ReminderTable(database, queue, clock)
    {
        public override async Task FileAsync(string deviceId, TimeSpan dueIn, Guid token)
        {
            Reach("filing");
            await base.FileAsync(deviceId, dueIn, token);
            Reach("filed");
        }

        public override async Task DeleteAsync(string deviceId, Guid token)
        {
            Reach("deleting");
            await base.DeleteAsync(deviceId, token);
            Reach("deleted");
        }

        public override async Task<IReadOnlyList<DueReminder>> TakeDueAsync(int count, TimeSpan lease, CancellationToken cancel)
        {
            var rings = await base.TakeDueAsync(count, lease, cancel);
            if (rings.Count > 0) Reach("fired");
            return rings;
        }
    }

    private sealed class Journal(Akka.Configuration.Config config) : DeviceJournal(config)
    {
        protected override async Task<IImmutableList<Exception>> WriteMessagesAsync(IEnumerable<AtomicWrite> messages, CancellationToken cancellationToken)
        {
            var writes = messages.ToList();
            var rows = writes.SelectMany(w => (IEnumerable<IPersistentRepresentation>)w.Payload).Select(p => p.Payload).OfType<DeviceEvents>().ToList();
            if (rows.Exists(r => r.Reminder is not null)) Reach("filing"); // the first one goes with the row
            var result = await base.WriteMessagesAsync(writes, cancellationToken).ConfigureAwait(false);
            if (rows.Exists(r => r.Reminder is not null)) Reach("filed");
            foreach (var @event in rows.SelectMany(r => r.Events))
            {
                if (@event is OutboxEvent.MessageAccepted) Reach("persisted");
                if (@event is OutboxEvent.MessageTimedOut) Reach("handled");
                if (@event is OutboxEvent.NotificationsAcknowledged) Reach("acknowledged and written");
            }

            return result;
        }
    }

    private sealed class Hook(PushOptions options) : Webhook(options)
    {
        public override async Task<PushResult> PostAsync(HttpForwarding to, byte[] body, CancellationToken cancel)
        {
            var result = await base.PostAsync(to, body, cancel);
            if (result.Outcome == PushOutcome.Answered) Reach("answered");
            return result;
        }
    }

    private sealed class Signal : BacklogSignal
    {
        public override void RowsWritten(string actionId)
        {
            Reach("backlog row written");
            base.RowsWritten(actionId);
        }
    }

    private sealed class AfterReply : IStartupFilter
    {
        public Action<IApplicationBuilder> Configure(Action<IApplicationBuilder> next) => app =>
        {
            app.Use((context, rest) =>
            {
                if (HttpMethods.IsPost(context.Request.Method) && context.Request.Path.Value!.EndsWith("/messages"))
                {
                    context.Response.OnCompleted(() =>
                    {
                        Reach("replied");
                        return Task.CompletedTask;
                    });
                }

                return rest(context);
            });
            next(app);
        };
    }

    // Takes the pusher's place as soon as it has registered itself, and passes everything on.
    private sealed class TollHouse(ActorSystem system, NotificationSink settler) : BackgroundService
    {
        protected override async Task ExecuteAsync(CancellationToken stoppingToken)
        {
            while (settler.Current.IsNobody()) await Task.Delay(1, stoppingToken); // it registers itself and tells nobody
            settler.Current = system.ActorOf(Props.Create(typeof(Toll), settler.Current), "toll");
        }
    }

    private sealed class Toll(IActorRef pusher) : UntypedActor
    {
        private readonly Dictionary<DeviceId, IActorRef> _devices = [];

        protected override void OnReceive(object message)
        {
            switch (message)
            {
                case NotificationsOffered pending:
                    Reach("offered");
                    _devices[pending.DeviceId] = Sender;
                    pusher.Tell(pending);
                    break;
                case ToDevice.NotificationsAcknowledged acknowledged:
                    Reach("acknowledged");
                    _devices[acknowledged.DeviceId].Tell(acknowledged);
                    break;
            }
        }
    }
}
