using System.Buffers;
using System.IO.Pipelines;
using System.Runtime.CompilerServices;

namespace IoTDelivery.Mqtt;

/// <summary>What a look at the pipe brought.</summary>
internal enum ReadState
{
    /// <summary>There are bytes, or the end of them.</summary>
    Ready,

    /// <summary>There are none yet: <c>onRead</c> runs when they come.</summary>
    Pending,

    /// <summary>Reset or aborted: the client is gone.</summary>
    Gone,
}

/// <summary>The reading half of one connection: one read of the pipe at a time, and how long the client has been silent.</summary>
internal sealed class MqttReader(PipeReader input, TimeProvider clock, Action onRead)
{
    private ValueTaskAwaiter<ReadResult> _read;
    private bool _hasRead;
    private long _receivedAt;

    /// <summary>True while bytes are awaited.</summary>
    public bool IsReading { get; private set; }

    /// <summary>True if the client has said something that nobody has looked at yet.</summary>
    public bool HasUnread => _hasRead || (IsReading && _read.IsCompleted);

    /// <summary>How long the client has said nothing.</summary>
    public TimeSpan Silence => clock.GetElapsedTime(_receivedAt);

    /// <summary>
    /// The client counts as heard now. Any byte counts, not only whole packets as in [MQTT-3.1.2-24]: a megabyte may take
    /// its time on a thin line.
    /// </summary>
    public void Heard() => _receivedAt = clock.GetTimestamp();

    /// <summary>What came. To be followed by <see cref="Advance"/> if it is <see cref="ReadState.Ready"/>.</summary>
    public ReadState Read(out ReadResult result)
    {
        result = default;
        if (!_hasRead)
        {
            _read = input.ReadAsync().GetAwaiter();
            if (!_read.IsCompleted)
            {
                IsReading = true;
                _read.UnsafeOnCompleted(onRead);
                return ReadState.Pending;
            }
        }

        _hasRead = false;
        try
        {
            result = _read.GetResult();
            if (!result.Buffer.IsEmpty) Heard();
            return ReadState.Ready;
        }
        catch (Exception) // whatever the transport calls it
        {
            return ReadState.Gone;
        }
    }

    /// <summary>Bytes before <paramref name="rest"/> are done; all were looked at if the packet is incomplete.</summary>
    public void Advance(ReadOnlySequence<byte> rest, bool isIncomplete) =>
        input.AdvanceTo(rest.Start, isIncomplete ? rest.End : rest.Start);

    /// <summary>The awaited read is there.</summary>
    public void OnRead() => (IsReading, _hasRead) = (false, true);

    /// <summary>Ends a pending read without bytes: look again.</summary>
    public void Wake() => input.CancelPendingRead();
}
