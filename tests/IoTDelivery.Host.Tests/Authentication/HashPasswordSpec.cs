using IoTDelivery.Host.Api.Authentication;

namespace IoTDelivery.Host.Tests.Authentication;

/// <summary>The command <c>hash-password</c>.</summary>
public sealed class HashPasswordSpec
{
    [Theory]
    [InlineData("secret\n", "secret")]
    [InlineData("secret", "secret")]
    [InlineData(" päss word \r\nsecond line", " päss word ")]
    public void It_prints_a_hash_that_this_password_matches_and_another_does_not(string input, string password)
    {
        var (output, errors) = (new StringWriter(), new StringWriter());

        Assert.Equal(0, HashPassword.Run(new StringReader(input), output, errors));

        var hash = output.ToString().TrimEnd();
        Assert.True(Passwords.IsHash(hash));
        Assert.True(Passwords.Matches(hash, password));
        Assert.False(Passwords.Matches(hash, password + "x"));
        Assert.Equal("", errors.ToString());
    }

    [Fact]
    public void The_same_password_has_another_hash_each_time() => Assert.NotEqual(Passwords.Hash("secret"), Passwords.Hash("secret"));

    [Fact]
    public void Without_a_password_it_says_what_is_missing_and_prints_no_hash()
    {
        foreach (var input in new[] { "", "\n", new string('x', 257) })
        {
            var (output, errors) = (new StringWriter(), new StringWriter());

            Assert.Equal(1, HashPassword.Run(new StringReader(input), output, errors));
            Assert.Equal("", output.ToString());
            Assert.Contains("1 to 256 characters", errors.ToString());
        }
    }

    [Theory]
    [InlineData("")]
    [InlineData("secret")]
    [InlineData("c2VjcmV0")]
    [InlineData("5f4dcc3b5aa765d61d8327deb882cf99")]
    public void A_plain_password_or_another_hash_is_not_taken_for_one(string text) => Assert.False(Passwords.IsHash(text));
}
