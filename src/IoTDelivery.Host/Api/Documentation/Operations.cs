namespace IoTDelivery.Host.Api.Documentation;

/// <summary>What the OpenAPI document says of an endpoint beside its path, its method and the errors any endpoint may answer.</summary>
public sealed record Operation(string Id, string Tag, string Summary)
{
    /// <summary>The shape of the request body; null: it takes none.</summary>
    public Type? Body { get; init; }

    /// <summary>True: without a body means something too.</summary>
    public bool IsBodyOptional { get; init; }

    /// <summary>The status of success.</summary>
    public int Status { get; init; } = StatusCodes.Status200OK;

    /// <summary>The shape of the answer; null: it has no body.</summary>
    public Type? Answer { get; init; }

    /// <summary>Query parameters, each a name of <see cref="Operations.QueryParameters"/>.</summary>
    public string[] Query { get; init; } = [];

    /// <summary>Errors of its own.</summary>
    public ErrorCode[] Errors { get; init; } = [];

    /// <summary>All errors: its own, and those that every endpoint, every project and every body may bring.</summary>
    public IEnumerable<ErrorCode> AllErrors(bool isOfProject) =>
    [
        .. Errors, ErrorCodes.Unauthorized, ErrorCodes.TooMuchAtOnce, ErrorCodes.Internal, ErrorCodes.Unavailable,
        .. isOfProject ? [ErrorCodes.NotFound] : Array.Empty<ErrorCode>(),
        .. Body is null ? [] : new[] { ErrorCodes.InvalidInput, ErrorCodes.Malformed, ErrorCodes.BodyTooLarge },
        .. Query.Length == 0 ? [] : new[] { ErrorCodes.InvalidInput },
    ];
}

/// <summary>One row for each endpoint of the API. ApiDocumentSpec fails when an endpoint has none.</summary>
public static class Operations
{
    private const string Project = "/v5/iot/{project_id}", Messages = Project + "/devices/{device_id}/messages", Rules = Project + "/routing-rule/rules", Actions = Project + "/routing-rule/actions",
        Groups = Project + "/device-group", Tasks = Project + "/batchtasks";

    private static readonly string[] Page = ["limit", "marker", "offset"];

    /// <summary>What the parameters of a query mean.</summary>
    public static readonly Dictionary<string, string> QueryParameters = new()
    {
        ["limit"] = "Items per page, 1 to 50, default 10.",
        ["marker"] = "The marker of the page before; default: the newest items.",
        ["offset"] = "Items left out after the marker, 0 to 500, default 0.",
        ["product_id"] = "Only devices of this product.",
        ["gateway_id"] = "Only devices of this gateway.",
        ["node_id"] = "Only devices with this node_id.",
        ["device_name"] = "Only devices with this name.",
        ["app_id"] = "Only those of this resource space.",
        ["is_cascade_query"] = "true: with gateway_id, sub-devices of its sub-devices too. Default false.",
        ["start_time"] = "Only devices created at or after this time, such as 20151212T121212Z.",
        ["end_time"] = "Only devices created at or before this time, such as 20151212T121212Z.",
        ["action_id"] = "resetSecret; with a group addDevice or removeDevice.",
        ["device_id"] = "The device.",
        ["task_type"] = "createMessages.",
        ["status"] = "Only tasks with this status.",
        ["task_detail_status"] = "Only targets with this status.",
        ["target"] = "Only this target.",
        ["up_to"] = "The dead_letter_id of the last one to forget.",
        ["product_name"] = "Only products with this name.",
        ["resource"] = "Only rules of this resource.",
        ["event"] = "Only rules of this event.",
        ["app_type"] = "GLOBAL or APP.",
        ["rule_name"] = "Only rules with this name.",
        ["active"] = "true or false.",
        ["rule_id"] = "Only actions of this rule.",
        ["channel"] = "Only actions of this channel.",
        ["queue_name"] = "Only queues with this in their name.",
        ["name"] = "The project's name, which here is its id.",
        ["nocatalog"] = "Taken and ignored: there is no catalogue.",
    };

    public static readonly Dictionary<string, Operation> Table = new()
    {
        ["POST /v3/auth/tokens"] = new("CreateToken", "Login", "Gives a token for a password. It stands in the header X-Subject-Token of the answer.")
        { Body = typeof(CreateTokenRequest), Query = ["nocatalog"], Status = 201, Answer = typeof(CreateTokenResponse), Errors = [ErrorCodes.NotFound] },
        ["GET /v3/projects"] = new("ListProjects", "Login", "Tells the projects of the site.")
        { Query = ["name"], Answer = typeof(ListProjectsResponse) },

        [$"POST {Messages}"] = new("CreateMessage", "Messages", "Sends a message to a device. 201 means: it is stored.")
        { Body = typeof(CreateMessageRequest), Status = 201, Answer = typeof(CreateMessageResponse), Errors = [ErrorCodes.NoSuchDevice] },
        [$"GET {Messages}"] = new("ListDeviceMessages", "Messages", "Lists the messages of a device that are known in full, newest first.")
        { Answer = typeof(ListDeviceMessagesResponse), Errors = [ErrorCodes.InvalidInput, ErrorCodes.NoSuchDevice] },
        [$"GET {Messages}/{{message_id}}"] = new("ShowDeviceMessage", "Messages", "Shows a message. An unknown one is a 200 without message_id, as in the cloud.")
        { Answer = typeof(DeviceMessage), Errors = [ErrorCodes.InvalidInput, ErrorCodes.NoSuchDevice] },
        [$"DELETE {Messages}/{{message_id}}"] = new("DeleteDeviceMessage", "Messages", "Deletes a message that still waits. It ends as FAILED.")
        { Status = 204, Errors = [ErrorCodes.InvalidInput, ErrorCodes.NotNow, ErrorCodes.NoSuchDevice] },

        [$"DELETE {Messages}"] = new("DeleteDeviceMessages", "Messages", "Deletes all messages that still wait for a device. They end as FAILED.")
        { Status = 204, Errors = [ErrorCodes.InvalidInput, ErrorCodes.NoSuchDevice] },

        [$"POST {Project}/devices"] = new("AddDevice", "Devices", "Creates a device.")
        { Body = typeof(AddDeviceRequest), Status = 201, Answer = typeof(DeviceResponse), Errors = [ErrorCodes.DeviceExists, ErrorCodes.NoSuchProduct] },
        [$"GET {Project}/devices"] = new("ListDevices", "Devices", "Lists devices, newest first.")
        { Query = [.. Page, "product_id", "gateway_id", "node_id", "device_name", "app_id", "is_cascade_query", "start_time", "end_time"], Answer = typeof(ListDevicesResponse) },
        [$"GET {Project}/devices/{{device_id}}"] = new("ShowDevice", "Devices", "Shows a device.")
        { Answer = typeof(DeviceResponse), Errors = [ErrorCodes.InvalidInput, ErrorCodes.NoSuchDevice] },
        [$"PUT {Project}/devices/{{device_id}}"] = new("UpdateDevice", "Devices", "Changes a device.")
        { Body = typeof(UpdateDeviceRequest), Answer = typeof(DeviceResponse), Errors = [ErrorCodes.NoSuchDevice] },
        [$"POST {Project}/devices/{{device_id}}/action"] = new("ResetDeviceSecret", "Devices", "Gives a device a new secret.")
        { Body = typeof(ResetSecretRequest), Query = ["action_id"], Answer = typeof(ResetSecretResponse), Errors = [ErrorCodes.NoSuchDevice] },
        [$"POST {Project}/devices/{{device_id}}/freeze"] = new("FreezeDevice", "Devices", "Refuses a device from now on and ends its connection. What waits for it waits on.")
        { Status = 204, Errors = [ErrorCodes.InvalidInput, ErrorCodes.NoSuchDevice] },
        [$"POST {Project}/devices/{{device_id}}/unfreeze"] = new("UnfreezeDevice", "Devices", "Lets a frozen device connect again.")
        { Status = 204, Errors = [ErrorCodes.InvalidInput, ErrorCodes.NoSuchDevice] },
        [$"DELETE {Project}/devices/{{device_id}}"] = new("DeleteDevice", "Devices", "Deletes a device. What waits for it ends as FAILED.")
        { Status = 204, Errors = [ErrorCodes.InvalidInput, ErrorCodes.NoSuchDevice] },

        [$"POST {Project}/products"] = new("CreateProduct", "Products", "Creates a product.")
        { Body = typeof(AddProductRequest), Status = 201, Answer = typeof(ProductResponse) },
        [$"GET {Project}/products"] = new("ListProducts", "Products", "Lists products, newest first.")
        { Query = [.. Page, "product_name"], Answer = typeof(ListProductsResponse) },

        [$"GET {Project}/products/{{product_id}}"] = new("ShowProduct", "Products", "Shows a product.")
        { Answer = typeof(ProductResponse), Errors = [ErrorCodes.NoSuchProduct] },
        [$"PUT {Project}/products/{{product_id}}"] = new("UpdateProduct", "Products", "Changes a product.")
        { Body = typeof(UpdateProductRequest), Answer = typeof(ProductResponse), Errors = [ErrorCodes.NoSuchProduct] },
        [$"DELETE {Project}/products/{{product_id}}"] = new("DeleteProduct", "Products", "Deletes a product that has no devices.")
        { Status = 204, Errors = [ErrorCodes.InvalidInput, ErrorCodes.NoSuchProduct] },

        [$"POST {Groups}"] = new("AddDeviceGroup", "Groups", "Creates a device group.")
        { Body = typeof(CreateDeviceGroupRequest), Status = 201, Answer = typeof(DeviceGroupResponse), Errors = [ErrorCodes.NotNow] },
        [$"GET {Groups}"] = new("ListDeviceGroups", "Groups", "Lists device groups, newest first.")
        { Query = [.. Page, "app_id"], Answer = typeof(ListDeviceGroupsResponse) },
        [$"GET {Groups}/{{group_id}}"] = new("ShowDeviceGroup", "Groups", "Shows a device group.")
        { Answer = typeof(DeviceGroupResponse) },
        [$"PUT {Groups}/{{group_id}}"] = new("UpdateDeviceGroup", "Groups", "Changes a device group.")
        { Body = typeof(UpdateDeviceGroupRequest), Answer = typeof(DeviceGroupResponse) },
        [$"DELETE {Groups}/{{group_id}}"] = new("DeleteDeviceGroup", "Groups", "Deletes a device group that is empty.")
        { Status = 204, Errors = [ErrorCodes.NotNow] },
        [$"POST {Groups}/{{group_id}}/action"] = new("CreateOrDeleteDeviceInGroup", "Groups", "Adds a device to a group, or takes it out.")
        { Query = ["action_id", "device_id"], Errors = [ErrorCodes.NotNow, ErrorCodes.NoSuchDevice] },
        [$"GET {Groups}/{{group_id}}/devices"] = new("ShowDevicesInGroup", "Groups", "Lists the devices of a group, the last added first.")
        { Query = Page, Answer = typeof(ListGroupedDevicesResponse) },

        [$"POST {Tasks}"] = new("CreateBatchTask", "Many devices", "Sends one message to many devices, now or later.")
        { Body = typeof(CreateBatchTaskRequest), Status = 201, Answer = typeof(BatchTaskInfo) },
        [$"GET {Tasks}"] = new("ListBatchTasks", "Many devices", "Lists batch tasks, newest first.")
        { Query = [.. Page, "task_type", "status", "app_id"], Answer = typeof(ListBatchTasksResponse) },
        [$"GET {Tasks}/{{task_id}}"] = new("ShowBatchTask", "Many devices", "Shows a batch task and how far it got with each target.")
        { Query = [.. Page, "task_detail_status", "target"], Answer = typeof(ShowBatchTaskResponse) },
        [$"DELETE {Tasks}/{{task_id}}"] = new("DeleteBatchTask", "Many devices", "Deletes a batch task that has ended.")
        { Status = 204, Errors = [ErrorCodes.NotNow] },
        [$"POST {Tasks}/{{task_id}}/stop"] = new("StopBatchTask", "Many devices", "Stops a batch task, or some of its targets.")
        { Body = typeof(ChangeBatchTaskRequest), IsBodyOptional = true, Answer = typeof(ChangeBatchTaskResponse), Errors = [ErrorCodes.NotNow] },
        [$"POST {Tasks}/{{task_id}}/retry"] = new("RetryBatchTask", "Many devices", "Asks the targets that failed once more, or some of them.")
        { Body = typeof(ChangeBatchTaskRequest), IsBodyOptional = true, Answer = typeof(ChangeBatchTaskResponse), Errors = [ErrorCodes.NotNow] },
        [$"POST {Project}/broadcast-messages"] = new("BroadcastMessage", "Many devices", "Sends a message to every device that has subscribed a broadcast topic.")
        { Body = typeof(BroadcastRequest), Status = 201, Answer = typeof(BroadcastResponse) },

        [$"POST {Rules}"] = new("CreateRoutingRule", "Rules", "Creates a rule: what is forwarded. It is inactive.")
        { Body = typeof(CreateRuleRequest), Status = 201, Answer = typeof(RuleResponse) },
        [$"GET {Rules}"] = new("ListRoutingRules", "Rules", "Lists rules, newest first.")
        { Query = [.. Page, "resource", "event", "app_type", "app_id", "rule_name", "active"], Answer = typeof(ListRulesResponse) },
        [$"GET {Rules}/{{rule_id}}"] = new("ShowRoutingRule", "Rules", "Shows a rule.")
        { Answer = typeof(RuleResponse), Errors = [ErrorCodes.NoSuchRule] },
        [$"PUT {Rules}/{{rule_id}}"] = new("UpdateRoutingRule", "Rules", "Changes a rule, or switches it on or off.")
        { Body = typeof(UpdateRuleRequest), Answer = typeof(RuleResponse), Errors = [ErrorCodes.NoSuchRule] },
        [$"DELETE {Rules}/{{rule_id}}"] = new("DeleteRoutingRule", "Rules", "Deletes a rule with its actions and what waits for them.")
        { Status = 204, Errors = [ErrorCodes.NoSuchRule] },
        [$"POST {Actions}"] = new("CreateRuleAction", "Rules", "Adds an action to a rule: where it forwards to.")
        { Body = typeof(CreateActionRequest), Status = 201, Answer = typeof(ActionResponse), Errors = [ErrorCodes.NoSuchRule] },
        [$"GET {Actions}"] = new("ListRuleActions", "Rules", "Lists actions, newest first.")
        { Query = [.. Page, "rule_id", "channel", "app_type", "app_id"], Answer = typeof(ListActionsResponse) },
        [$"GET {Actions}/{{action_id}}"] = new("ShowRuleAction", "Rules", "Shows an action.")
        { Answer = typeof(ActionResponse), Errors = [ErrorCodes.NoSuchRule] },
        [$"PUT {Actions}/{{action_id}}"] = new("UpdateRuleAction", "Rules", "Changes where an action forwards to, also for what waits already.")
        { Body = typeof(UpdateActionRequest), Answer = typeof(ActionResponse), Errors = [ErrorCodes.NoSuchRule] },
        [$"DELETE {Actions}/{{action_id}}"] = new("DeleteRuleAction", "Rules", "Deletes an action and what waits for it.")
        { Status = 204, Errors = [ErrorCodes.NoSuchRule] },

        [$"POST {Project}/certificates"] = new("AddCertificate", "Rules", "Takes a CA certificate, which actions name as cert_id.")
        { Body = typeof(AddCertificateRequest), Status = 201, Answer = typeof(CertificateInfo) },
        [$"GET {Project}/certificates"] = new("ListCertificates", "Rules", "Lists CA certificates, newest first.")
        { Query = [.. Page, "app_id"], Answer = typeof(ListCertificatesResponse) },
        [$"DELETE {Project}/certificates/{{certificate_id}}"] = new("DeleteCertificate", "Rules", "Deletes a CA certificate.")
        { Status = 204 },

        [$"POST {Project}/amqp-queues"] = new("AddQueue", "AMQP", "Creates a queue, which actions name and consumers read.")
        { Body = typeof(AddQueueRequest), Status = 201, Answer = typeof(QueueInfo), Errors = [ErrorCodes.NotNow] },
        [$"GET {Project}/amqp-queues"] = new("BatchShowQueue", "AMQP", "Lists queues, newest first. DefaultQueue is always there.")
        { Query = [.. Page, "queue_name"], Answer = typeof(ListQueuesResponse) },
        [$"GET {Project}/amqp-queues/{{queue_id}}"] = new("ShowQueue", "AMQP", "Shows a queue; all fields are null if it does not exist.")
        { Answer = typeof(ShowQueueResponse) },
        [$"DELETE {Project}/amqp-queues/{{queue_id}}"] = new("DeleteQueue", "AMQP", "Deletes a queue no action forwards to.")
        { Status = 204, Errors = [ErrorCodes.NotNow] },
        [$"POST {Project}/auth/accesscode"] = new("CreateAccessCode", "AMQP", "Makes the code consumers log in with; the one before is void.")
        { Body = typeof(CreateAccessCodeRequest), Status = 201, Answer = typeof(AccessCodeResponse) },

        [$"GET {Actions}/{{action_id}}/backlog"] = new("ShowBacklog", "Dead letters", "Tells how much waits for the receiver of an action.")
        { Answer = typeof(BacklogResponse), Errors = [ErrorCodes.NoSuchRule] },
        [$"GET {Actions}/{{action_id}}/dead-letters"] = new("ListDeadLetters", "Dead letters", "Lists the notifications of an action that were given up, oldest first.")
        { Query = ["limit", "marker"], Answer = typeof(ListDeadLettersResponse), Errors = [ErrorCodes.NoSuchRule] },
        [$"POST {Actions}/{{action_id}}/dead-letters/replay"] = new("ReplayDeadLetters", "Dead letters", "Sends the dead letters of an action once more, behind what waits.")
        { Answer = typeof(ReplayDeadLettersResponse), Errors = [ErrorCodes.NoSuchRule] },
        [$"DELETE {Actions}/{{action_id}}/dead-letters"] = new("ForgetDeadLetters", "Dead letters", "Forgets the dead letters of an action up to one that was seen.")
        { Query = ["up_to"], Answer = typeof(ForgetDeadLettersResponse), Errors = [ErrorCodes.NoSuchRule] },
    };
}
