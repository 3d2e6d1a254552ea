using System.Collections.Immutable;
using Akka.Actor;
using IoTDelivery.Devices;
using IoTDelivery.Domain;
using Microsoft.Extensions.Logging;
using MQTTnet.Packets;

namespace IoTDelivery.Mqtt;

/// <summary>
/// The talk of one gateway's connection about its sub-devices. One thing at a time, in the order it was asked; what was
/// said last is on the wire before the next is looked at. What changes without the gateway is told as soon as nothing
/// is asked.
/// </summary>
//
//   sync_request ──► behind its version ──┐
//                                         ├──► a page of changes ──► notices ──► on the wire ──► next page
//   created or deleted by REST ───────────┘
//   add, delete, update_status ──────────────► each one done ──────► response ──► on the wire
//
internal sealed class GatewayDialogue : UntypedActor
{
    /// <summary>Requests that wait; more are answered as refused.</summary>
    public const int WaitingMax = 16;

    private const int PageSize = 100;
    private const int AskersMax = 1_000; // whoever comes on top is answered at once

    private readonly AcceptedConnect _connect;
    private readonly IActorRef _stage;
    private readonly MqttServices _services;
    private readonly GatewayEvents _events;
    private readonly Queue<GatewayRequest> _asked = new();
    private readonly List<(IActorRef Asker, long Version)> _askers = []; // wait until this version is on the wire
    private readonly CancellationTokenSource _stopped = new();
    private readonly IActorRef _self;
    private long? _told; // up to which version; null before anything was
    private long _newest; // that anybody spoke of
    private bool _isTelling; // a request for the list is not answered to its end
    private long _deletionsBehind; // what was deleted before is not told
    private bool _isAnswering; // a request of the gateway: whoever does it waits for nobody who waits for it
    private bool _isBusy;

    public GatewayDialogue(AcceptedConnect connect, IActorRef stage, MqttServices services)
    {
        (_connect, _stage, _services, _self) = (connect, stage, services, Self);
        _events = new GatewayEvents(connect.DeviceId, services.Clock);
        Context.Watch(stage);
    }

    /// <summary>For the stage: put these on the wire, and then say <see cref="Written"/> if it is awaited.</summary>
    public sealed record Say(ImmutableArray<MqttPublishPacket> Packets, bool IsAwaited = true);

    /// <summary>From the stage: what was last said is on the wire.</summary>
    public sealed record Written
    {
        public static readonly Written Instance = new();
    }

    private sealed record Begun(long Version, long DeletionsBehind);

    // Newest: all changes up to this version had happened when it was read.
    private sealed record Page(IReadOnlyList<SubDeviceChanged> Changes, long Newest);

    private DeviceId Gateway => _connect.DeviceId;

    protected override void PostStop() => _stopped.Cancel();

    protected override void OnReceive(object message)
    {
        switch (message)
        {
            case GatewayRequest request when _asked.Count >= WaitingMax:
                if (Refuse(request) is { } refusal) _stage.Tell(new Say([refusal], IsAwaited: false));
                break;
            case GatewayRequest request:
                _asked.Enqueue(request);
                break;
            case ToConnection.SubDevicesChanged changed:
                _told ??= changed.Version - 1;
                _newest = Math.Max(_newest, changed.Version);
                if (_isAnswering || _askers.Count >= AskersMax) Sender.Tell(OutboxReply.Done.Instance);
                else _askers.Add((Sender, changed.Version));
                break;
            case Begun begun:
                (_told, _deletionsBehind, _isTelling, _isBusy) = (begun.Version, begun.DeletionsBehind, true, false);
                _isAnswering = false;
                break;
            case Page page:
                OnPage(page);
                break;
            case Say say:
                _isAnswering = false;
                _stage.Tell(say);
                break;
            case Written:
                _isBusy = false;
                break;
            case Terminated:
                Context.Stop(Self);
                return;
        }

        GoOn();
    }

    private void OnPage(Page page)
    {
        if (page.Changes.Count > 0) _told = page.Changes[^1].Version;
        if (page.Changes.Count < PageSize) (_told, _isTelling) = (Math.Max(_told!.Value, page.Newest), false);
        if (page.Changes.Count > 0) _stage.Tell(new Say([.. _events.Notices(page.Changes)]));
        else _isBusy = false;
    }

    private void GoOn()
    {
        if (_isBusy) return;
        AnswerAskers();
        if (_asked.TryDequeue(out var request)) Do(request);
        else if (_isTelling || _newest > _told) Start(ReadAsync);
    }

    // The gateway is told before the application is answered: a message for a child it does not know it drops.
    private void AnswerAskers()
    {
        foreach (var (asker, version) in _askers.Where(a => a.Version <= _told)) asker.Tell(OutboxReply.Done.Instance);
        _askers.RemoveAll(a => a.Version <= _told);
    }

    // Askers that wait already are answered: one of them may hold up what this request needs.
    private void Do(GatewayRequest request)
    {
        _isAnswering = true;
        foreach (var (asker, _) in _askers) asker.Tell(OutboxReply.Done.Instance);
        _askers.Clear();
        Start(request switch
        {
            GatewayRequest.Sync sync => () => BeginAsync(sync),
            GatewayRequest.Add add => () => AddAsync(add),
            GatewayRequest.Delete delete => () => DeleteAsync(delete),
            GatewayRequest.UpdateStatus update => () => UpdateAsync(update),
            _ => throw new ArgumentOutOfRangeException(nameof(request)),
        });
    }

    private void Start(Func<Task<object>> work)
    {
        _isBusy = true;
        _ = DoAsync();

        async Task DoAsync()
        {
            while (!_stopped.IsCancellationRequested)
            {
                try
                {
                    _self.Tell(await work(), ActorRefs.NoSender);
                    return;
                }
                catch (Exception cause)
                {
                    _services.Logger.SubDeviceListUnknown(Gateway, cause.Message);
                    var pause = Task.Delay(_services.Options.AttachRetryMax, _services.Clock, _stopped.Token);
                    await pause.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                }
            }
        }
    }

    private async Task<object> BeginAsync(GatewayRequest.Sync sync)
    {
        var (version, deletionsBehind) = await _services.GatewayRequests.BeginAsync(
            Gateway, sync.Version, _stopped.Token);
        return new Begun(version, deletionsBehind);
    }

    private Task<object> ReadAsync()
    {
        var (told, deletionsBehind, newest) = (_told!.Value, _deletionsBehind, _newest);
        return ReadAsync();

        async Task<object> ReadAsync() => new Page(
            await _services.GatewayRequests.ChangesAsync(Gateway, told, deletionsBehind, PageSize, _stopped.Token),
            newest);
    }

    private async Task<object> AddAsync(GatewayRequest.Add add)
    {
        List<SubDeviceInfo> added = [];
        List<(System.Text.Json.JsonElement, SubDeviceError)> failed = [];
        foreach (var (device, at) in add.Devices.Select((d, at) => (d, at)))
        {
            if (at >= GatewayRequest.DevicesMax)
            {
                failed.Add((device, TooMany("devices", GatewayRequest.DevicesMax)));
                continue;
            }

            var (info, error) = await TryAsync(
                () => _services.GatewayRequests.AddAsync(Gateway, device, _stopped.Token), cause => (null, cause));
            if (info is not null) added.Add(info);
            else failed.Add((device, error!));
        }

        return new Say([_events.Added(add.EventId, added, failed)]);
    }

    private async Task<object> DeleteAsync(GatewayRequest.Delete delete)
    {
        List<string> deleted = [];
        List<(string, SubDeviceError)> failed = [];
        foreach (var (id, at) in delete.DeviceIds.Select((id, at) => (id, at)))
        {
            var error = at >= GatewayRequest.DevicesMax
                ? TooMany("devices", GatewayRequest.DevicesMax)
                : await TryAsync(
                    () => _services.GatewayRequests.DeleteAsync(Gateway, id, _stopped.Token), cause => cause);
            if (error is null) deleted.Add(id);
            else failed.Add((id, error));
        }

        return new Say([_events.Deleted(delete.EventId, deleted, failed)]);
    }

    private async Task<object> UpdateAsync(GatewayRequest.UpdateStatus update)
    {
        List<SubDeviceStatus> noted = [];
        List<(string, SubDeviceError)> failed = [];
        foreach (var (status, at) in update.Statuses.Select((s, at) => (s, at)))
        {
            var error = at >= GatewayRequest.StatusesMax
                ? TooMany("device_statuses", GatewayRequest.StatusesMax)
                : await TryAsync(
                    () => _services.GatewayRequests.ReportAsync(
                        Gateway, _connect.ConnectionId, status, _stopped.Token),
                    cause => cause);
            if (error is null) noted.Add(status);
            else failed.Add((status.DeviceId, error));
        }

        return new Say([_events.StatusUpdated(update.EventId, noted, failed)]);
    }

    // Each request gets its answer, whatever happens to the database.
    private async Task<T> TryAsync<T>(Func<Task<T>> work, Func<SubDeviceError, T> failed)
    {
        try
        {
            return await work();
        }
        catch (Exception cause) when (!_stopped.IsCancellationRequested)
        {
            _services.Logger.SubDeviceRequestFailed(cause, Gateway);
            return failed(_services.GatewayRequests.Unavailable);
        }
    }

    private MqttPublishPacket? Refuse(GatewayRequest request)
    {
        var error = _services.GatewayRequests.TooMuchAtOnce;
        return request switch
        {
            GatewayRequest.Add add => _events.Added(add.EventId, [], add.Devices.Select(d => (d, error))),
            GatewayRequest.Delete delete =>
                _events.Deleted(delete.EventId, [], delete.DeviceIds.Select(id => (id, error))),
            GatewayRequest.UpdateStatus update =>
                _events.StatusUpdated(update.EventId, [], update.Statuses.Select(s => (s.DeviceId, error))),
            _ => null,
        };
    }

    private SubDeviceError TooMany(string member, int max) => _services.GatewayRequests.TooMany(member, max);
}
