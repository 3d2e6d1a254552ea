namespace IoTDelivery.Devices.Journal;

/// <summary>The sequence number of a row is taken, and not by this write: another owner writes for the
/// device.</summary>
public sealed class SequenceNumberTakenException(string persistenceId, long sequenceNr)
    : Exception($"Number {sequenceNr} of {persistenceId} is taken by another owner of the device.");

/// <summary>A row could not be stored in the time that an outage of the database may last. It may be stored all the
/// same.</summary>
public sealed class JournalUnavailableException(string message, Exception? cause = null) : Exception(message, cause);
