namespace IoTDelivery.Domain.Tests;

public sealed class TopicFiltersSpec
{
    [Theory]
    [InlineData("sport/tennis/player1/#", "sport/tennis/player1", true)]
    [InlineData("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true)]
    [InlineData("sport/#", "sport", true)]
    [InlineData("#", "sport/tennis", true)]
    [InlineData("#", "$oc/devices/a/sys/messages/down", false)] // [MQTT-4.7.2-1]
    [InlineData("+/devices/a", "$oc/devices/a", false)]
    [InlineData("sport/tennis/+", "sport/tennis/player1", true)]
    [InlineData("sport/tennis/+", "sport/tennis/player1/ranking", false)]
    [InlineData("sport/+", "sport", false)]
    [InlineData("sport/+", "sport/", true)]
    [InlineData("+/+", "/finance", true)]
    [InlineData("/+", "/finance", true)]
    [InlineData("+", "/finance", false)]
    [InlineData("$oc/devices/a/sys/messages/down", "$oc/devices/a/sys/messages/down", true)]
    [InlineData("$oc/devices/a/sys/messages/down/#", "$oc/devices/a/sys/messages/down", true)]
    [InlineData("$oc/devices/a/sys/#", "$oc/devices/a/sys/messages/down", true)]
    [InlineData("$oc/devices/b/sys/#", "$oc/devices/a/sys/messages/down", false)]
    [InlineData("a/b", "a/b/c", false)]
    [InlineData("a/b/c", "a/b", false)]
    public void A_filter_matches_what_the_specification_says(string filter, string topic, bool matches) =>
        Assert.Equal(matches, TopicFilters.Matches(filter, topic));

    [Theory]
    [InlineData("#", true)]
    [InlineData("a/#", true)]
    [InlineData("a#", false)]
    [InlineData("a/#/b", false)]
    [InlineData("+/a/+", true)]
    [InlineData("a+/b", false)]
    [InlineData("", false)]
    [InlineData("a\0", false)]
    public void Wildcards_stand_alone_in_their_level(string filter, bool valid) => Assert.Equal(valid, TopicFilters.IsValidFilter(filter));
}
