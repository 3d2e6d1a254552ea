using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Text.Json;
using Amqp;
using IoTDelivery.Tests;

namespace IoTDelivery.Host.Tests;

/// <summary>The whole story of a queue: an application that only speaks REST and AMQP, on the plain port and with TLS.</summary>
public sealed class AmqpApiSpec(AmqpApiSpec.Platform platform) : IClassFixture<AmqpApiSpec.Platform>
{
    public sealed class Platform : RunningPlatform
    {
        private readonly string _certificate = Path.Combine(Directory.CreateTempSubdirectory("iotdelivery-amqp-").FullName, "node.pem");

        public int Port { get; } = Ports.Take();

        public int TlsPort { get; } = Ports.Take();

        protected override string[] Settings => [$"--Amqp:Port={Port}", $"--Amqp:TlsPort={TlsPort}", $"--Tls:CertificateFile={_certificate}"];

        public override Task InitializeAsync()
        {
            using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
            using var certificate = new CertificateRequest("CN=node", key, HashAlgorithmName.SHA256).CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddDays(1));
            File.WriteAllText(_certificate, certificate.ExportCertificatePem() + "\n" + key.ExportPkcs8PrivateKeyPem());
            return base.InitializeAsync();
        }
    }

    [Theory]
    [InlineData("amqp")]
    [InlineData("amqps")]
    public async Task A_message_that_waits_is_told_to_a_consumer_of_the_queue_its_rule_forwards_to(string scheme)
    {
        var queueName = $"queue-{scheme}";
        await PostAsync("p1/amqp-queues", $$"""{"queue_name":"{{queueName}}"}""");
        var rule = await PostAsync("p1/routing-rule/rules", """{"subject":{"resource":"device.message.status","event":"update"}}""");
        var ruleId = rule.GetProperty("rule_id").GetString();
        await PostAsync("p1/routing-rule/actions", $$$"""{"rule_id":"{{{ruleId}}}","channel":"AMQP_FORWARDING","channel_detail":{"amqp_forwarding":{"queue_name":"{{{queueName}}}"} } }""");
        Assert.Equal(HttpStatusCode.OK, (await platform.SendAsync(HttpMethod.Put, $"p1/routing-rule/rules/{ruleId}", """{"active":true}""")).Status);
        await PostAsync("p1/devices/lamp_1/messages", $$"""{"message_id":"for-{{scheme}}","message":"hello"}""");
        Assert.Equal(HttpStatusCode.NoContent, (await platform.SendAsync(HttpMethod.Delete, $"p1/devices/lamp_1/messages/for-{scheme}")).Status);

        var access = await PostAsync("p1/auth/accesscode", """{"type":"AMQP"}""");
        var user = $"accessKey={access.GetProperty("access_key").GetString()}|timestamp={DateTimeOffset.UtcNow.ToUnixTimeMilliseconds()}|instanceId=any";
        var factory = new ConnectionFactory();
        factory.SSL.RemoteCertificateValidationCallback = (_, certificate, _, _) => certificate!.Subject == "CN=node";
        var connection = await factory.CreateAsync(new Address(
            "127.0.0.1", scheme == "amqp" ? platform.Port : platform.TlsPort, user, access.GetProperty("access_code").GetString(), "/", scheme));
        var link = new ReceiverLink(new Session(connection), "consumer", queueName);
        link.SetCredit(10, CreditMode.Auto);
        foreach (var status in new[] { "PENDING", "FAILED" })
        {
            var message = await link.ReceiveAsync(TimeSpan.FromSeconds(20));
            Assert.NotNull(message);
            var told = JsonSerializer.Deserialize<JsonElement>((string)message.Body).GetProperty("notify_data");
            Assert.Equal((status, $"for-{scheme}"), (told.GetProperty("status").GetString(), told.GetProperty("message_id").GetString()));
            link.Accept(message);
        }

        await connection.CloseAsync();
        Assert.Equal(HttpStatusCode.NoContent, (await platform.SendAsync(HttpMethod.Delete, $"p1/routing-rule/rules/{ruleId}")).Status);
    }

    private async Task<JsonElement> PostAsync(string path, string body)
    {
        var (status, answer, _) = await platform.SendAsync(HttpMethod.Post, path, body);
        Assert.True(status == HttpStatusCode.Created, $"{path} was answered {status}: {answer}");
        return answer;
    }
}
