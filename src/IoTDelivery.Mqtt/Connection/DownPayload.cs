using System.Buffers;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using IoTDelivery.Devices;
using IoTDelivery.Domain;
using MQTTnet.Packets;
using MQTTnet.Protocol;

namespace IoTDelivery.Mqtt;

/// <summary>What a device gets for a message (manual, "Message Delivery" for devices).</summary>
public static class DownPayload
{
    // Devices read UTF-8, not HTML: nothing is escaped that JSON does not demand.
    private static readonly JsonWriterOptions Relaxed = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    private static readonly JsonEncodedText ObjectDeviceId = JsonEncodedText.Encode("object_device_id");
    private static readonly JsonEncodedText Name = JsonEncodedText.Encode("name");
    private static readonly JsonEncodedText Id = JsonEncodedText.Encode("id");
    private static readonly JsonEncodedText Content = JsonEncodedText.Encode("content");

    [ThreadStatic]
    private static (ArrayBufferWriter<byte> Buffer, Utf8JsonWriter Json)? _writer;

    /// <summary>The payload: the manual's JSON object, the content itself (raw), or the decoded bytes (Base64).</summary>
    /// <exception cref="FormatException">The content claims to be Base64 and is not.</exception>
    public static byte[] Of(DeviceId deviceId, MessageId messageId, MessageBody body) => body switch
    {
        { Encoding: ContentEncoding.Base64 } => Convert.FromBase64String(body.Content),
        { Format: PayloadFormat.Raw } => Encoding.UTF8.GetBytes(body.Content),
        _ => Standard(deviceId, messageId, body),
    };

    /// <summary>The PUBLISH that carries the message. <paramref name="remaining"/>: what is left of its ttl.</summary>
    /// <exception cref="FormatException">The content claims to be Base64 and is not.</exception>
    public static MqttPublishPacket Publish(DeviceId deviceId, ToConnection.Transmit transmit, bool isMqtt5, TimeSpan? remaining)
    {
        var (body, isQoS1) = (transmit.Body, transmit.QoS > 0);
        var packet = new MqttPublishPacket
        {
            Topic = body.Topic,
            QualityOfServiceLevel = isQoS1 ? MqttQualityOfServiceLevel.AtLeastOnce : MqttQualityOfServiceLevel.AtMostOnce,
            PacketIdentifier = isQoS1 ? transmit.Tag : (ushort)0, // [MQTT-2.3.1-5] no packet id at QoS 0
            Dup = isQoS1 && transmit.Dup, // [MQTT-3.3.1-2]
            PayloadSegment = Of(deviceId, transmit.MessageId, body),
        };
        if (isMqtt5 && remaining is { } left) packet.MessageExpiryInterval = Expiry(left);
        if (isMqtt5 && body.Properties is { } properties) Add(properties, packet);
        return packet;
    }

    // [MQTT-3.3.2-6] What is left of the ttl; 0 would mean that it ended before it was sent, and the outbox decides that.
    private static uint Expiry(TimeSpan left) => (uint)Math.Clamp(left.TotalSeconds, 1, uint.MaxValue);

    // Only strings, and no member the manual does not name: SDKs take anything else for a raw message.
    // A message that was a JSON object is text in "content" for the same reason.
    private static byte[] Standard(DeviceId deviceId, MessageId messageId, MessageBody body)
    {
        _writer ??= NewWriter();
        var (buffer, json) = _writer.Value;
        try
        {
            buffer.ResetWrittenCount();
            json.Reset(buffer);
            json.WriteStartObject();
            json.WriteString(ObjectDeviceId, deviceId.Value);
            if (body.Name is not null) json.WriteString(Name, body.Name);
            json.WriteString(Id, messageId.Value);
            json.WriteString(Content, body.Content);
            json.WriteEndObject();
            json.Flush();
            return buffer.WrittenSpan.ToArray();
        }
        finally
        {
            if (buffer.Capacity > 64 * 1024) _writer = null; // a large message does not keep its room on every thread
        }
    }

    private static (ArrayBufferWriter<byte> Buffer, Utf8JsonWriter Json) NewWriter()
    {
        var buffer = new ArrayBufferWriter<byte>(1024);
        return (buffer, new Utf8JsonWriter(buffer, Relaxed));
    }

    private static void Add(MessageProperties properties, MqttPublishPacket packet)
    {
        if (properties.CorrelationData is { } correlation) packet.CorrelationData = Encoding.UTF8.GetBytes(correlation);

        // [MQTT-3.3.2-14] A response topic has no wildcards. The REST contract allows them; a client would have to close the connection.
        if (properties.ResponseTopic is { } topic && TopicFilters.IsValidTopic(topic)) packet.ResponseTopic = topic;

        if (properties.UserProperties.IsDefaultOrEmpty) return;
        packet.UserProperties = new List<MqttUserProperty>(properties.UserProperties.Length);
        foreach (var property in properties.UserProperties)
        {
            packet.UserProperties.Add(new MqttUserProperty(property.Key, Encoding.UTF8.GetBytes(property.Value).AsMemory()));
        }
    }
}
