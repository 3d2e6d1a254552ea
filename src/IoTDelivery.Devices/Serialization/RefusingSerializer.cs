using System.Runtime.Serialization;
using Akka.Actor;
using Akka.Serialization;

namespace IoTDelivery.Devices.Serialization;

/// <summary>Stands where Akka would fall back to JSON: a message between nodes, or an event, that nobody wrote a serializer for is a fault of this program.</summary>
public sealed class RefusingSerializer(ExtendedActorSystem system) : Serializer(system)
{
    public override int Identifier => 4054;

    public override bool IncludeManifest => false;

    /// <exception cref="SerializationException">Always; it names the type.</exception>
    public override byte[] ToBinary(object obj) => throw new SerializationException($"{obj.GetType()} has no serializer: it cannot leave this node.");

    /// <exception cref="SerializationException">Always.</exception>
    public override object FromBinary(byte[] bytes, Type type) => throw new SerializationException($"What was received is of no known serializer ({type}).");
}
