using System.Text;
using IoTDelivery.Domain;
using Xunit;

namespace IoTDelivery.Mqtt.Tests;

/// <summary>Manual, "Device Connection Authentication".</summary>
public sealed class DeviceLoginSpec
{
    private static readonly TimeSpan Skew = TimeSpan.FromHours(1);

    [Fact]
    public void The_password_is_that_of_the_manual() =>
        Assert.Equal("c75150e6cb841417396819e4d2ee4358a416344a03a083e3a8567074ddec820a", DeviceLogin.Password("12345678", "2025041401"));

    [Theory]
    [InlineData("dev_0_0_2025041401", "dev", false)]
    [InlineData("product_node_0_1_2025041401", "product_node", true)]
    [InlineData("a_0_1_b_0_0_2025041401", "a_0_1_b", false)]
    public void The_client_id_is_split_from_the_right(string clientId, string deviceId, bool checksTime)
    {
        Assert.True(DeviceLogin.TryParse(clientId, out var login));

        Assert.Equal(new DeviceLogin(DeviceId.Parse(deviceId), checksTime, "2025041401"), login);
    }

    [Theory]
    [InlineData(null)]
    [InlineData("")]
    [InlineData("dev")]
    [InlineData("dev_0_0")]
    [InlineData("_0_0_2025041401")]
    [InlineData("dev_0_0_202504140")]
    [InlineData("dev_0_0_20250414011")]
    [InlineData("dev_0_0_20250414AB")]
    [InlineData("dev_2_0_2025041401")]
    [InlineData("dev_0_2_2025041401")]
    [InlineData("dev_0__2025041401")]
    [InlineData("de v_0_0_2025041401")]
    public void Any_other_client_id_is_malformed(string? clientId) => Assert.False(DeviceLogin.TryParse(clientId, out _));

    [Fact]
    public void A_client_id_of_more_than_256_characters_is_malformed() =>
        Assert.False(DeviceLogin.TryParse(new string('d', 250) + "_0_0_2025041401", out _));

    [Fact]
    public void Sign_type_0_is_proven_at_any_time() =>
        Assert.True(Proves("dev_0_0_2025041401", now: new DateTimeOffset(2031, 1, 1, 0, 0, 0, TimeSpan.Zero)));

    [Theory]
    [InlineData("2025-04-14T00:00:00Z", true)]
    [InlineData("2025-04-14T01:30:00Z", true)]
    [InlineData("2025-04-14T02:59:59Z", true)]
    [InlineData("2025-04-14T03:00:00Z", false)]
    [InlineData("2025-04-13T23:59:59Z", false)]
    public void Sign_type_1_is_proven_within_an_hour_of_its_hour(string now, bool expected) =>
        Assert.Equal(expected, Proves("dev_0_1_2025041401", DateTimeOffset.Parse(now, System.Globalization.CultureInfo.InvariantCulture)));

    [Fact]
    public void Sign_type_1_with_an_hour_that_does_not_exist_is_not_proven() =>
        Assert.False(Proves("dev_0_1_2025041499", Given.Noon, timestamp: "2025041499"));

    [Fact]
    public void Another_secret_proves_nothing() => Assert.False(Proves("dev_0_0_2025041401", Given.Noon, secret: "12345679"));

    [Fact]
    public void The_secondary_secret_proves_as_much_as_the_primary()
    {
        Assert.True(Proves("dev_0_0_2025041401", Given.Noon, secret: "second-secret", secondary: "second-secret"));
        Assert.True(Proves("dev_0_0_2025041401", Given.Noon, secondary: "second-secret"));
        Assert.False(Proves("dev_0_0_2025041401", Given.Noon, secret: "third-secret", secondary: "second-secret"));
    }

    [Fact]
    public void Another_user_name_proves_nothing() => Assert.False(Proves("dev_0_0_2025041401", Given.Noon, username: "other"));

    [Fact]
    public void An_upper_case_or_missing_password_proves_nothing()
    {
        Assert.True(DeviceLogin.TryParse("dev_0_0_2025041401", out var login));
        var password = DeviceLogin.Password(Given.Secret, "2025041401").ToUpperInvariant();

        Assert.False(login.IsProvenBy("dev", Encoding.ASCII.GetBytes(password), Given.Secret, null, Given.Noon, Skew));
        Assert.False(login.IsProvenBy("dev", null, Given.Secret, null, Given.Noon, Skew));
    }

    private static bool Proves(
        string clientId, DateTimeOffset now, string secret = Given.Secret, string username = "dev", string timestamp = Given.Timestamp, string? secondary = null)
    {
        Assert.True(DeviceLogin.TryParse(clientId, out var login));
        var password = Encoding.ASCII.GetBytes(DeviceLogin.Password(secret, timestamp));
        return login.IsProvenBy(username, password, Given.Secret, secondary, now, Skew);
    }
}
