using System.Net;
using System.Text.Json;

namespace IoTDelivery.Host.Tests;

/// <summary>Device groups, batch tasks and broadcasts over HTTP: what is wrong is named, what is right reads as the contract has it.</summary>
public sealed class ManyDevicesApiSpec(RunningPlatform platform) : IClassFixture<RunningPlatform>
{
    private const string AnyTask = """{"task_name":"t","task_type":"createMessages","targets":["lamp_1"],"document":{"message":"x"}}""";

    // ---- groups

    [Fact]
    public async Task A_group_lives_as_the_contract_has_it()
    {
        var created = await ExpectAsync(201, HttpMethod.Post, "p1/device-group", """{"name":"garden","description":"outside"}""");
        var id = created.GetProperty("group_id").GetString()!;
        Assert.Equal($$"""{"group_id":"{{id}}","name":"garden","description":"outside","group_type":"STATIC"}""", created.GetRawText());

        await ExpectAsync(200, HttpMethod.Post, $"p1/device-group/{id}/action?action_id=addDevice&device_id=lamp_1");
        var devices = await ExpectAsync(200, HttpMethod.Get, $"p1/device-group/{id}/devices");
        Assert.Equal("""[{"device_id":"lamp_1","node_id":"1","product_id":"lamp"}]""", devices.GetProperty("devices").GetRawText());
        Assert.Equal(1, devices.GetProperty("page").GetProperty("count").GetInt32());

        Assert.Equal("cellar", (await ExpectAsync(200, HttpMethod.Put, $"p1/device-group/{id}", """{"name":"cellar"}""")).GetProperty("name").GetString());
        Assert.Contains(id, (await ExpectAsync(200, HttpMethod.Get, "p1/device-group?limit=50")).GetRawText());
        await ExpectAsync(404, HttpMethod.Get, $"p2/device-group/{id}");
        await ExpectAsync(403, HttpMethod.Delete, $"p1/device-group/{id}"); // not empty
        await ExpectAsync(200, HttpMethod.Post, $"p1/device-group/{id}/action?action_id=removeDevice&device_id=lamp_1");
        await ExpectAsync(204, HttpMethod.Delete, $"p1/device-group/{id}");
        await ExpectAsync(404, HttpMethod.Get, $"p1/device-group/{id}/devices");
    }

    [Theory]
    [InlineData("POST", "p1/device-group", """{}""", "name is missing")]
    [InlineData("POST", "p1/device-group", """{"name":"a/b"}""", "name may only contain")]
    [InlineData("POST", "p1/device-group", """{"name":"n","super_group_id":"unknown"}""", "super_group_id: there is no such device group")]
    [InlineData("POST", "p1/device-group", """{"name":"n","group_type":"DYNAMIC"}""", "group_type DYNAMIC is not offered")]
    [InlineData("POST", "p1/device-group/g/action?action_id=paint&device_id=lamp_1", null, "action_id must be one of addDevice, removeDevice")]
    [InlineData("POST", "p1/device-group/g/action?action_id=addDevice", null, "device_id must be")]
    [InlineData("GET", "p1/device-group?limit=51", null, "limit must be a whole number from 1 to 50")]
    public Task A_group_request_that_is_wrong_is_refused_and_the_answer_names_the_field(string method, string path, string? body, string says) => RefusedAsync(method, path, body, says);

    // ---- batch tasks

    [Fact]
    public async Task A_batch_task_runs_and_is_told_as_the_contract_has_it()
    {
        var created = await ExpectAsync(201, HttpMethod.Post, "p1/batchtasks", """
            {"task_name":"Grüße_1","task_type":"createMessages","app_id":"app","targets":["lamp_1","nobody","lamp_1"],"document":{"message":{"a":1},"name":"n","ttl":5},
             "task_policy":{"retry_count":0,"retry_interval":5}}
            """);
        var id = created.GetProperty("task_id").GetString()!;
        Assert.Matches("^[0-9a-f]{24}$", id);
        Assert.Equal(
            $$$"""{"app_id":"app","task_id":"{{{id}}}","task_name":"Grüße_1","task_type":"createMessages","targets":["lamp_1","nobody"],"document":{"message":{"a":1},"name":"n","ttl":5},"task_policy":{"retry_count":0,"retry_interval":5},"status":"Initializing","status_desc":"The targets are being written down.","task_progress":{"total":2,"processing":0,"success":0,"fail":0,"waitting":2,"fail_wait_retry":0,"stopped":0,"removed":0},"create_time":"{{{created.GetProperty("create_time").GetString()}}}"}""",
            created.GetRawText());

        var shown = await EndedAsync(id, "PartialSuccess");
        Assert.Equal("""{"total":2,"processing":0,"success":1,"fail":1,"waitting":0,"fail_wait_retry":0,"stopped":0,"removed":0}""", shown.GetProperty("batchtask").GetProperty("task_progress").GetRawText());
        Assert.Equal("1 of 2 targets took the message.", shown.GetProperty("batchtask").GetProperty("status_desc").GetString());
        var (failed, succeeded) = (shown.GetProperty("task_details")[0], shown.GetProperty("task_details")[1]);
        Assert.Equal("""{"target":"nobody","status":"Fail","error":{"error_code":"IOTDA.014000","error_msg":"The device does not exist."}}""", failed.GetRawText());
        Assert.Equal(("lamp_1", "Success"), (succeeded.GetProperty("target").GetString(), succeeded.GetProperty("status").GetString()));
        var messageId = JsonSerializer.Deserialize<JsonElement>(succeeded.GetProperty("output").GetString()!).GetProperty("message_id").GetString();
        Assert.Equal("""{"a":1}""", (await ExpectAsync(200, HttpMethod.Get, $"p1/devices/lamp_1/messages/{messageId}")).GetProperty("message").GetRawText());

        var firstPage = await ExpectAsync(200, HttpMethod.Get, $"p1/batchtasks/{id}?limit=1");
        Assert.Equal(2, firstPage.GetProperty("page").GetProperty("count").GetInt32());
        var secondPage = await ExpectAsync(200, HttpMethod.Get, $"p1/batchtasks/{id}?limit=1&marker={firstPage.GetProperty("page").GetProperty("marker").GetString()}");
        Assert.Equal("lamp_1", Assert.Single(secondPage.GetProperty("task_details").EnumerateArray()).GetProperty("target").GetString());
        Assert.Equal(1, (await ExpectAsync(200, HttpMethod.Get, $"p1/batchtasks/{id}?task_detail_status=Fail")).GetProperty("page").GetProperty("count").GetInt32());

        Assert.Contains(id, (await ExpectAsync(200, HttpMethod.Get, "p1/batchtasks?task_type=createMessages&status=PartialSuccess&app_id=app")).GetRawText());
        Assert.Equal(0, (await ExpectAsync(200, HttpMethod.Get, "p1/batchtasks?task_type=firmwareUpgrade")).GetProperty("page").GetProperty("count").GetInt32());
        await ExpectAsync(404, HttpMethod.Get, $"p2/batchtasks/{id}");
        await ExpectAsync(403, HttpMethod.Post, $"p1/batchtasks/{id}/stop", "{}"); // it has ended
        Assert.Equal("""{"targets":[{"target":"nobody","status":"success"},{"target":"lamp_1","status":"failure","error_code":"IOTDA.000006","error_msg":"It has neither failed nor been stopped."}]}""",
            (await ExpectAsync(200, HttpMethod.Post, $"p1/batchtasks/{id}/retry", """{"targets":["nobody","lamp_1"]}""")).GetRawText());
        await EndedAsync(id, "PartialSuccess");
        await ExpectAsync(204, HttpMethod.Delete, $"p1/batchtasks/{id}");
        await ExpectAsync(404, HttpMethod.Get, $"p1/batchtasks/{id}");
    }

    [Fact]
    public async Task A_scheduled_task_waits_and_is_stopped_by_a_request_without_a_body()
    {
        var at = DateTime.UtcNow.AddHours(2).ToString("yyyyMMdd'T'HHmmss'Z'");
        var created = await ExpectAsync(201, HttpMethod.Post, "p1/batchtasks", AnyTask[..^1] + $$$""","task_policy":{"schedule_time":"{{{at}}}"}}""");
        var id = created.GetProperty("task_id").GetString()!;
        Assert.Equal(at, (await EndedAsync(id, "Waitting")).GetProperty("batchtask").GetProperty("task_policy").GetProperty("schedule_time").GetString());
        await ExpectAsync(403, HttpMethod.Delete, $"p1/batchtasks/{id}");

        await ExpectAsync(200, HttpMethod.Post, $"p1/batchtasks/{id}/stop");

        Assert.Equal(1, (await EndedAsync(id, "Stopped")).GetProperty("batchtask").GetProperty("task_progress").GetProperty("stopped").GetInt32());
    }

    [Theory]
    [InlineData("""{"task_type":"createMessages","targets":["lamp_1"],"document":{"message":"x"}}""", "task_name is missing")]
    [InlineData("""{"task_name":"a b","task_type":"createMessages","targets":["lamp_1"],"document":{"message":"x"}}""", "task_name may only contain")]
    [InlineData("""{"task_name":"t","task_type":"createDevices","targets":["lamp_1"],"document":{"message":"x"}}""", "task_type must be createMessages: the others are not offered")]
    [InlineData("""{"task_name":"t","task_type":"paint","targets":["lamp_1"],"document":{"message":"x"}}""", "task_type must be one of softwareUpgrade")]
    [InlineData("""{"task_name":"t","task_type":"createMessages","document":{"message":"x"}}""", "targets is missing")]
    [InlineData("""{"task_name":"t","task_type":"createMessages","targets":[],"document":{"message":"x"}}""", "targets must name one device at least")]
    [InlineData("""{"task_name":"t","task_type":"createMessages","targets":["lamp_1","a b"],"document":{"message":"x"}}""", "targets[1] must be a device id")]
    [InlineData("""{"task_name":"t","task_type":"createMessages","document_source":"file","document":{"message":"x"}}""", "document_source is not for messages")]
    [InlineData("""{"task_name":"t","task_type":"createMessages","targets_filter":{"group_ids":["g"]},"document":{"message":"x"}}""", "there is no device group 'g'")]
    [InlineData("""{"task_name":"t","task_type":"createMessages","targets_filter":{"product_ids":["fan"]},"document":{"message":"x"}}""", "there is no product 'fan'")]
    [InlineData("""{"task_name":"t","task_type":"createMessages","targets_filter":{"group_ids":"g"},"document":{"message":"x"}}""", "targets_filter.group_ids must be an array")]
    [InlineData("""{"task_name":"t","task_type":"createMessages","targets":["lamp_1"]}""", "document is missing")]
    [InlineData("""{"task_name":"t","task_type":"createMessages","targets":["lamp_1"],"document":"x"}""", "document must be a JSON object")]
    [InlineData("""{"task_name":"t","task_type":"createMessages","targets":["lamp_1"],"document":{"message":"x","ttl":7}}""", "document.ttl must be a whole number")]
    [InlineData("""{"task_name":"t","task_type":"createMessages","targets":["lamp_1"],"document":{"message":"x"},"task_policy":{"retry_count":6,"retry_interval":1}}""", "task_policy.retry_count must be a whole number from 0 to 5")]
    [InlineData("""{"task_name":"t","task_type":"createMessages","targets":["lamp_1"],"document":{"message":"x"},"task_policy":{"retry_count":5}}""", "task_policy.retry_interval is missing")]
    [InlineData("""{"task_name":"t","task_type":"createMessages","targets":["lamp_1"],"document":{"message":"x"},"task_policy":{"schedule_time":"20991212T121212Z"}}""", "task_policy.schedule_time must be a UTC time")]
    [InlineData("""{"task_name":"t","task_type":"createMessages","targets":["lamp_1"],"document":{"message":"x"},"task_policy":{"schedule_time":"tomorrow"}}""", "task_policy.schedule_time must be a UTC time")]
    public Task A_task_that_is_wrong_is_refused_and_the_answer_names_the_field(string body, string says) => RefusedAsync("POST", "p1/batchtasks", body, says);

    [Theory]
    [InlineData("GET", "p1/batchtasks", null, "task_type must be one of")]
    [InlineData("GET", "p1/batchtasks?task_type=createMessages&status=Waiting", null, "status must be one of Initializing, Waitting")]
    [InlineData("GET", "p1/batchtasks/x?task_detail_status=Done", null, "task_detail_status must be one of Waitting")]
    [InlineData("POST", "p1/batchtasks/x/stop", """{"targets":[]}""", "targets must name one device at least")]
    public Task A_question_about_tasks_that_is_wrong_is_refused(string method, string path, string? body, string says) => RefusedAsync(method, path, body, says);

    [Fact]
    public async Task More_than_thirty_thousand_targets_are_refused_and_more_than_a_hundred_are_not_stopped_at_once()
    {
        string Targets(int count) => JsonSerializer.Serialize(Enumerable.Range(0, count).Select(i => $"d{i}"));
        await RefusedAsync("POST", "p1/batchtasks", AnyTask.Replace("""["lamp_1"]""", Targets(30_001)), "targets may have at most 30000 items");
        await RefusedAsync("POST", "p1/batchtasks/x/stop", $$"""{"targets":{{Targets(101)}}}""", "targets may have at most 100 items");
    }

    // ---- broadcasts

    [Theory]
    [InlineData("""{"message":"eA=="}""", "topic_full_name is missing")]
    [InlineData("""{"topic_full_name":"news","message":"eA=="}""", "topic_full_name must begin with $oc/broadcast/")]
    [InlineData("""{"topic_full_name":"$oc/broadcast/","message":"eA=="}""", "topic_full_name must begin with $oc/broadcast/ and go on")]
    [InlineData("""{"topic_full_name":"$oc/broadcast/a/#","message":"eA=="}""", "topic_full_name must be a topic name without")]
    [InlineData("""{"topic_full_name":"$oc/broadcast/a/b/c/d/e/f/g","message":"eA=="}""", "topic_full_name may have at most 7 '/'")]
    [InlineData("""{"topic_full_name":"$oc/broadcast/灯灯灯灯灯灯灯灯灯灯灯灯灯灯灯灯灯灯灯灯灯灯灯灯灯灯灯灯灯灯灯灯灯灯灯灯灯灯灯灯","message":"eA=="}""", "topic_full_name must not be longer than 128 bytes")]
    [InlineData("""{"topic_full_name":"$oc/broadcast/a"}""", "message is missing")]
    [InlineData("""{"topic_full_name":"$oc/broadcast/a","message":"hello!"}""", "message must be a Base64 string")]
    [InlineData("""{"topic_full_name":"$oc/broadcast/a","message":"eA==","ttl":3}""", "ttl must be a whole number from 0 to 1440, a multiple of 5")]
    [InlineData("""{"topic_full_name":"$oc/broadcast/a","message":"eA==","message_id":"a b"}""", "message_id may only contain")]
    [InlineData("""{"topic_full_name":"$oc/broadcast/a","message":"eA==","app_id":"a b"}""", "app_id may only contain")]
    public Task A_broadcast_that_is_wrong_is_refused_and_the_answer_names_the_field(string body, string says) => RefusedAsync("POST", "p1/broadcast-messages", body, says);

    [Fact]
    public async Task A_broadcast_is_answered_as_the_contract_has_it_also_when_nobody_hears_it()
    {
        foreach (var ttl in new[] { 0, 60 })
        {
            var answer = await ExpectAsync(201, HttpMethod.Post, "p1/broadcast-messages", $$"""{"app_id":"app","topic_full_name":"$oc/broadcast/a/b/c/d/e/f","message":"eA==","ttl":{{ttl}},"message_id":"b1"}""");
            Assert.Equal(
                $$"""{"app_id":"app","topic_full_name":"$oc/broadcast/a/b/c/d/e/f","message_id":"b1","created_time":"{{answer.GetProperty("created_time").GetString()}}"}""", answer.GetRawText());
        }

        var atLimit = Convert.ToBase64String(new byte[96 * 1024]);
        await ExpectAsync(201, HttpMethod.Post, "p1/broadcast-messages", $$"""{"topic_full_name":"$oc/broadcast/a","message":"{{atLimit}}"}""");
        await RefusedAsync("POST", "p1/broadcast-messages", $$"""{"topic_full_name":"$oc/broadcast/a","message":"{{atLimit}}eA=="}""", "message must have 1 to 131072 characters");
    }

    private async Task<JsonElement> EndedAsync(string taskId, string status)
    {
        for (var until = DateTime.UtcNow.AddSeconds(20); ; await Task.Delay(20)) // a task tells nobody when it has ended
        {
            var shown = await ExpectAsync(200, HttpMethod.Get, $"p1/batchtasks/{taskId}");
            if (shown.GetProperty("batchtask").GetProperty("status").GetString() == status) return shown;
            Assert.True(DateTime.UtcNow < until, $"Never {status}: {shown}");
        }
    }

    private async Task<JsonElement> ExpectAsync(int status, HttpMethod method, string path, string? body = null)
    {
        var (answered, answer, _) = await platform.SendAsync(method, path, body);
        Assert.True((int)answered == status, $"{method} {path}: expected {status}, got {(int)answered} {answer}");
        return answer;
    }

    private async Task RefusedAsync(string method, string path, string? body, string says)
    {
        var (status, answer, _) = await platform.SendAsync(new HttpMethod(method), path, body);
        Assert.Equal(HttpStatusCode.BadRequest, status);
        Assert.Equal("IOTDA.000006", answer.GetProperty("error_code").GetString());
        Assert.Contains(says, answer.GetProperty("error_msg").GetString());
    }
}
