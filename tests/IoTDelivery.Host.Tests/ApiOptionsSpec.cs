using IoTDelivery.Host.Api;
using IoTDelivery.Host.Api.Authentication;

namespace IoTDelivery.Host.Tests;

/// <summary>A wrong setting is named before the node starts.</summary>
public sealed class ApiOptionsSpec
{
    private static readonly string Hash = Passwords.Hash("secret");

    public static TheoryData<ApiOptions, string> Wrong => new()
    {
        { new ApiOptions { Token = "short" }, "Api:Token" },
        { new ApiOptions { AdminToken = "short" }, "Api:AdminToken" },
        { new ApiOptions { AdminToken = "the-same-token", Token = "the-same-token" }, "Api:AdminToken" },
        { new ApiOptions { ConcurrencyMax = 0 }, "Api:ConcurrencyMax" },
        { new ApiOptions { Projects = ["p 1"] }, "Api:Projects" },
        { new ApiOptions { SignatureClockSkew = TimeSpan.Zero }, "Api:SignatureClockSkew" },
        { new ApiOptions { TokenLifetime = TimeSpan.FromSeconds(-1) }, "Api:TokenLifetime" },
        { new ApiOptions { LoginFailuresMax = 0 }, "Api:LoginFailuresMax" },
        { new ApiOptions { LoginFailureWindow = TimeSpan.Zero }, "Api:LoginFailureWindow" },
        { new ApiOptions { AccessKeys = [new() { AccessKey = "", SecretKey = "long-enough" }] }, "Api:AccessKeys:0:AccessKey" },
        { new ApiOptions { AccessKeys = [new() { AccessKey = "a/b", SecretKey = "long-enough" }] }, "Api:AccessKeys:0:AccessKey" },
        { new ApiOptions { AccessKeys = [new() { AccessKey = "a", SecretKey = "short" }] }, "Api:AccessKeys:0:SecretKey" },
        { new ApiOptions { AccessKeys = [new() { AccessKey = "a", SecretKey = "long-enough" }, new() { AccessKey = "a", SecretKey = "long-enough" }] }, "Api:AccessKeys:1:AccessKey" },
        { new ApiOptions { Users = [new() { Name = "", PasswordHash = Hash }] }, "Api:Users:0:Name" },
        { new ApiOptions { Users = [new() { Name = "app", PasswordHash = "secret" }] }, "Api:Users:0:PasswordHash" },
        { new ApiOptions { Users = [new() { Name = "app", PasswordHash = Hash }, new() { Name = "app", PasswordHash = Hash }] }, "Api:Users:1:Name" },
    };

    [Theory]
    [MemberData(nameof(Wrong), DisableDiscoveryEnumeration = true)]
    public void A_wrong_setting_is_named(ApiOptions options, string setting) => Assert.StartsWith(setting, options.Problem());

    [Fact]
    public void The_defaults_and_a_full_set_are_right()
    {
        Assert.Null(new ApiOptions().Problem());
        Assert.Null(new ApiOptions
        {
            AccessKeys = [new() { AccessKey = "AK_1", SecretKey = "long-enough" }, new() { AccessKey = "AK-2", SecretKey = "long-enough" }],
            Users = [new() { Name = "app", PasswordHash = Hash }, new() { Name = "app 2", PasswordHash = Hash, Domain = "factory" }],
        }.Problem());
    }

    [Fact]
    public void A_plain_secret_does_not_stand_in_what_is_said_of_a_wrong_setting() => Assert.DoesNotContain(
        "p4ss", new ApiOptions { Users = [new() { Name = "app", PasswordHash = "p4ssword" }], AccessKeys = [new() { AccessKey = "a", SecretKey = "p4ss" }] }.Problem());
}
