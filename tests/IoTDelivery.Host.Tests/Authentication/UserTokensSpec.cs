using IoTDelivery.Host.Api;
using IoTDelivery.Host.Api.Authentication;
using Microsoft.AspNetCore.DataProtection;

namespace IoTDelivery.Host.Tests.Authentication;

/// <summary>What makes a token valid, and what ends it.</summary>
public sealed class UserTokensSpec
{
    private static readonly User App = new() { Name = "app", PasswordHash = Passwords.Hash("one") };
    private static readonly DateTimeOffset Tomorrow = DateTimeOffset.UtcNow.AddDays(1);

    private readonly EphemeralDataProtectionProvider _keyRing = new();

    [Fact]
    public void A_token_is_valid_on_every_node_of_the_site_that_knows_the_user() => Assert.True(Tokens(App).IsValid(Tokens(App).Issue(App, Tomorrow)));

    [Fact]
    public void A_token_is_not_valid_once_its_time_is_over() => Assert.False(Tokens(App).IsValid(Tokens(App).Issue(App, DateTimeOffset.UtcNow.AddSeconds(-1))));

    [Fact]
    public void A_token_ends_when_its_user_is_removed() => Assert.False(Tokens().IsValid(Tokens(App).Issue(App, Tomorrow)));

    [Fact]
    public void A_token_ends_when_its_user_gets_another_hash_even_of_the_same_password()
    {
        var token = Tokens(App).Issue(App, Tomorrow);

        Assert.False(Tokens(new User { Name = "app", PasswordHash = Passwords.Hash("one") }).IsValid(token));
    }

    [Fact]
    public void A_token_of_another_site_is_not_valid() =>
        Assert.False(Tokens(App).IsValid(new UserTokens(new EphemeralDataProtectionProvider(), Options(App)).Issue(App, Tomorrow)));

    [Fact]
    public void A_token_that_was_changed_anywhere_is_not_valid()
    {
        var tokens = Tokens(App);
        var token = tokens.Issue(App, Tomorrow);
        for (var at = 0; at < token.Length - 1; at++) // the last character may hold bits that mean nothing
        {
            Assert.False(tokens.IsValid(token[..at] + (token[at] == 'A' ? 'B' : 'A') + token[(at + 1)..]), $"Character {at}.");
        }

        Assert.True(tokens.IsValid(token));
    }

    [Theory]
    [InlineData("")]
    [InlineData("x")]
    [InlineData("not a token!")]
    public void What_is_no_token_is_not_valid(string text) => Assert.False(Tokens(App).IsValid(text));

    private UserTokens Tokens(params User[] users) => new(_keyRing, Options(users));

    private static ApiOptions Options(params User[] users) => new() { Users = users };
}
