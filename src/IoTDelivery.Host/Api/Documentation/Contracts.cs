using System.ComponentModel;
using System.ComponentModel.DataAnnotations;
using System.Text.Json;

namespace IoTDelivery.Host.Api.Documentation;

// The shapes of the contract for the OpenAPI document; names become snake_case. Requests are read by RequestFields and answers are written by hand,
// so nothing else uses these: ApiDocumentSpec compares them with what the API really takes and answers.

public sealed record ErrorResponse
{
    [Description("See docs/ERRORS.md.")] public required string ErrorCode { get; init; }
    public required string ErrorMsg { get; init; }
    [Description("With 503: the message the outcome of which is unknown. Ask again with this id.")] public string? MessageId { get; init; }
}

public sealed record CreateTokenRequest
{
    public required LoginAuth Auth { get; init; }
}

public sealed record LoginAuth
{
    public required LoginIdentity Identity { get; init; }
    public LoginScope? Scope { get; init; }
}

public sealed record LoginIdentity
{
    [Description("Must contain password.")] public required string[] Methods { get; init; }
    public required LoginPassword Password { get; init; }
}

public sealed record LoginPassword
{
    public required LoginUser User { get; init; }
}

public sealed record LoginUser
{
    [MaxLength(64)] public required string Name { get; init; }
    [MaxLength(256)] public required string Password { get; init; }
    public LoginDomain? Domain { get; init; }
}

public sealed record LoginDomain
{
    [MaxLength(64)] public string? Name { get; init; }
}

public sealed record LoginScope
{
    public LoginProject? Project { get; init; }
}

public sealed record LoginProject
{
    [MaxLength(64)] public string? Id { get; init; }
    [MaxLength(64)] public string? Name { get; init; }
}

public sealed record CreateTokenResponse
{
    public required TokenInfo Token { get; init; }
}

public sealed record TokenInfo
{
    public required string ExpiresAt { get; init; }
    public required string IssuedAt { get; init; }
    public required string[] Methods { get; init; }
    [Description("Absent if the login named no project.")] public LoginProject? Project { get; init; }
    public required JsonElement[] Roles { get; init; }
    public required TokenUser User { get; init; }
}

public sealed record TokenUser
{
    public required string Name { get; init; }
    public LoginDomain? Domain { get; init; }
}

public sealed record ListProjectsResponse
{
    public required ProjectInfo[] Projects { get; init; }
}

public sealed record ProjectInfo
{
    public required string Id { get; init; }
    public required string Name { get; init; }
    public required bool Enabled { get; init; }
}

public sealed record CreateMessageRequest
{
    [Description("Made by the platform if absent. The same id with the same body is answered as the first time."), RegularExpression("^[A-Za-z0-9_-]{1,128}$")]
    public string? MessageId { get; init; }
    [MaxLength(128)] public string? Name { get; init; }
    [Description("A string or a JSON object, at most 256 KB.")] public required JsonElement Message { get; init; }
    public PropertiesDto? Properties { get; init; }
    [Description("none (default) or base64: message is binary, the device gets the decoded bytes.")] public string? Encoding { get; init; }
    [Description("standard (default) or raw: message itself is the payload.")] public string? PayloadFormat { get; init; }
    [MaxLength(128), Description("Suffix of $oc/devices/{device_id}/user/; excludes topic_full_name.")] public string? Topic { get; init; }
    [MaxLength(128), Description("The complete topic; excludes topic.")] public string? TopicFullName { get; init; }
    [Range(0, 1440), Description("Minutes, a multiple of 5; default 1440; 0: not cached.")] public int? Ttl { get; init; }
}

public sealed record PropertiesDto
{
    [MaxLength(128)] public string? CorrelationData { get; init; }
    [MaxLength(128)] public string? ResponseTopic { get; init; }
    [MaxLength(20)] public UserPropertyDto[]? UserProperties { get; init; }
}

public sealed record UserPropertyDto
{
    [MaxLength(128)] public required string PropKey { get; init; }
    [MaxLength(128)] public required string PropValue { get; init; }
}

public sealed record CreateMessageResponse
{
    public required string MessageId { get; init; }
    public required MessageResult Result { get; init; }
}

public sealed record MessageResult
{
    [Description("PENDING, DELIVERED, FAILED or TIMEOUT.")] public required string Status { get; init; }
    public required string CreatedTime { get; init; }
    [Description("Absent while PENDING.")] public string? FinishedTime { get; init; }
}

public sealed record DeviceMessage
{
    [Description("Absent, as everything else is, if the device has no such message.")] public string? MessageId { get; init; }
    public string? Name { get; init; }
    public JsonElement? Message { get; init; }
    public string? Encoding { get; init; }
    public string? PayloadFormat { get; init; }
    [Description("The full topic.")] public string? Topic { get; init; }
    public PropertiesDto? Properties { get; init; }
    [Description("PENDING, DELIVERED, FAILED or TIMEOUT.")] public string? Status { get; init; }
    public ErrorInfoDto? ErrorInfo { get; init; }
    public string? CreatedTime { get; init; }
    public string? FinishedTime { get; init; }
}

public sealed record ErrorInfoDto
{
    public required string ErrorCode { get; init; }
    public required string ErrorMsg { get; init; }
}

public sealed record ListDeviceMessagesResponse
{
    public required string DeviceId { get; init; }
    public required DeviceMessage[] Messages { get; init; }
}

public sealed record AddDeviceRequest
{
    [Description("Default {product_id}_{node_id}."), RegularExpression("^[A-Za-z0-9_-]{1,128}$")] public string? DeviceId { get; init; }
    [RegularExpression("^[A-Za-z0-9_-]{1,64}$")] public required string NodeId { get; init; }
    [RegularExpression("^[A-Za-z0-9_-]{1,36}$")] public required string ProductId { get; init; }
    [MaxLength(256)] public string? DeviceName { get; init; }
    [MaxLength(2048)] public string? Description { get; init; }
    [MaxLength(36)] public string? AppId { get; init; }
    [MaxLength(128), Description("The device is a sub-device of this gateway.")] public string? GatewayId { get; init; }
    [Description("A JSON object of at most 1 KB.")] public JsonElement? ExtensionInfo { get; init; }
    public AddDeviceAuthInfo? AuthInfo { get; init; }
}

public sealed record AddDeviceAuthInfo
{
    [Description("SECRET.")] public string? AuthType { get; init; }
    [RegularExpression("^[A-Za-z0-9_-]{8,32}$"), Description("Made by the platform if absent.")] public string? Secret { get; init; }
}

public sealed record UpdateDeviceRequest
{
    [MaxLength(256)] public string? DeviceName { get; init; }
    [MaxLength(2048)] public string? Description { get; init; }
    [Description("A JSON object of at most 1 KB.")] public JsonElement? ExtensionInfo { get; init; }
}

public sealed record ResetSecretRequest
{
    [RegularExpression("^[A-Za-z0-9_-]{8,32}$"), Description("Made by the platform if absent.")] public string? Secret { get; init; }
    [Description("PRIMARY (default) or SECONDARY.")] public string? SecretType { get; init; }
    [Description("Ends the device's connection; default false.")] public bool? ForceDisconnect { get; init; }
}

public sealed record ResetSecretResponse
{
    public required string DeviceId { get; init; }
    public required string Secret { get; init; }
    public required string SecretType { get; init; }
}

public record DeviceSummary
{
    public string? AppId { get; init; }
    public required string DeviceId { get; init; }
    public required string NodeId { get; init; }
    public required string GatewayId { get; init; }
    public string? DeviceName { get; init; }
    public required string NodeType { get; init; }
    public string? Description { get; init; }
    public required string ProductId { get; init; }
    [Description("INACTIVE (never connected), ONLINE, OFFLINE or FROZEN.")] public required string Status { get; init; }
    public required JsonElement[] Tags { get; init; }
}

public sealed record DeviceResponse : DeviceSummary
{
    public string? ProductName { get; init; }
    public required DeviceAuthInfo AuthInfo { get; init; }
    public string? FwVersion { get; init; }
    public string? SwVersion { get; init; }
    public string? DeviceSdkVersion { get; init; }
    public required string CreateTime { get; init; }
    public string? ActiveTime { get; init; }
    public string? ConnectionStatusUpdateTime { get; init; }
    public JsonElement? ExtensionInfo { get; init; }
}

public sealed record DeviceAuthInfo
{
    public required string AuthType { get; init; }
    public required string Secret { get; init; }
    public string? SecondarySecret { get; init; }
    public required bool SecureAccess { get; init; }
    public required int Timeout { get; init; }
}

public sealed record ListDevicesResponse
{
    public required DeviceSummary[] Devices { get; init; }
    public required PageInfo Page { get; init; }
}

public sealed record PageInfo
{
    public required int Count { get; init; }
    [Description("The marker of the last item: ask with it for those after it.")] public string? Marker { get; init; }
}

public record AddProductRequest
{
    [Description("Made by the platform if absent."), RegularExpression("^[A-Za-z0-9_-]{1,36}$")] public string? ProductId { get; init; }
    [MaxLength(64)] public required string Name { get; init; }
    [MaxLength(32)] public required string DeviceType { get; init; }
    [Description("MQTT, CoAP, HTTP, HTTPS, Modbus, ONVIF, OPC-UA, OPC-DA, Other, TCP or UDP.")] public required string ProtocolType { get; init; }
    [Description("json (default) or binary.")] public string? DataFormat { get; init; }
    [Description("At most 500 KB.")] public JsonElement[]? ServiceCapabilities { get; init; }
    [MaxLength(32)] public string? ManufacturerName { get; init; }
    [MaxLength(64)] public string? Industry { get; init; }
    [MaxLength(128)] public string? Description { get; init; }
    [MaxLength(36)] public string? AppId { get; init; }
}

public sealed record UpdateProductRequest
{
    [MaxLength(64)] public string? Name { get; init; }
    [MaxLength(32)] public string? DeviceType { get; init; }
    [Description("One of those of a new product.")] public string? ProtocolType { get; init; }
    [Description("json or binary.")] public string? DataFormat { get; init; }
    [Description("At most 500 KB.")] public JsonElement[]? ServiceCapabilities { get; init; }
    [MaxLength(32)] public string? ManufacturerName { get; init; }
    [MaxLength(64)] public string? Industry { get; init; }
    [MaxLength(128)] public string? Description { get; init; }
}

public sealed record ProductResponse : AddProductRequest
{
    public required string CreateTime { get; init; }
}

public sealed record ListProductsResponse
{
    [Description("Without service_capabilities.")] public required ProductResponse[] Products { get; init; }
    public required PageInfo Page { get; init; }
}

public sealed record RuleSubject
{
    [Description("device.message.status, device.status or device.message.")] public required string Resource { get; init; }
    [Description("update, or report with device.message.")] public required string Event { get; init; }
}

public sealed record CreateRuleRequest
{
    [MaxLength(256)] public string? RuleName { get; init; }
    [MaxLength(2048)] public string? Description { get; init; }
    public required RuleSubject Subject { get; init; }
    [Description("GLOBAL (default) or APP.")] public string? AppType { get; init; }
    [MaxLength(36)] public string? AppId { get; init; }
}

public sealed record UpdateRuleRequest
{
    [MaxLength(256)] public string? RuleName { get; init; }
    [MaxLength(2048)] public string? Description { get; init; }
    [Description("An inactive rule forwards nothing.")] public bool? Active { get; init; }
}

public sealed record RuleResponse
{
    public required string RuleId { get; init; }
    public string? RuleName { get; init; }
    public string? Description { get; init; }
    public required RuleSubject Subject { get; init; }
    public required string AppType { get; init; }
    public string? AppId { get; init; }
    public string? Select { get; init; }
    public string? Where { get; init; }
    public required bool Active { get; init; }
}

public sealed record ListRulesResponse
{
    public required RuleResponse[] Rules { get; init; }
    public required int Count { get; init; }
    public string? Marker { get; init; }
}

public sealed record CreateActionRequest
{
    [MaxLength(36)] public required string RuleId { get; init; }
    [Description("HTTP_FORWARDING or AMQP_FORWARDING.")] public required string Channel { get; init; }
    public required ChannelDetail ChannelDetail { get; init; }
}

public sealed record UpdateActionRequest
{
    [Description("As it is: it cannot be changed.")] public string? Channel { get; init; }
    public required ChannelDetail ChannelDetail { get; init; }
}

[Description("The one that is named after the channel.")]
public sealed record ChannelDetail
{
    public HttpForwarding? HttpForwarding { get; init; }
    public AmqpForwarding? AmqpForwarding { get; init; }
}

public sealed record AmqpForwarding
{
    [MaxLength(128), Description("A queue of the project.")] public required string QueueName { get; init; }

    [RegularExpression("^(Flat|HeaderBody|Both)$")]
    [Description("The shape of notifications; that of the site if it is left out.")]
    public string? Shape { get; init; }
}

public sealed record HttpForwarding
{
    [MaxLength(2048), Description("Where notifications are POSTed, http or https.")] public required string Url { get; init; }
    [MaxLength(64), Description("The certificate authority of an https receiver: a certificate_id.")] public string? CertId { get; init; }
    [MaxLength(256), Description("The name in the receiver's certificate.")] public string? CnName { get; init; }
    [Description("Sends cn_name as the server name.")] public bool? SniEnable { get; init; }
    [Description("Signs every notification with token.")] public bool? SignatureEnable { get; init; }
    [RegularExpression("^[A-Za-z0-9]{3,32}$")] public string? Token { get; init; }

    [RegularExpression("^(Flat|HeaderBody|Both)$")]
    [Description("The shape of notifications; that of the site if it is left out.")]
    public string? Shape { get; init; }
}

public sealed record ActionResponse
{
    public required string ActionId { get; init; }
    public required string RuleId { get; init; }
    public required string Channel { get; init; }
    public required ChannelDetail ChannelDetail { get; init; }
}

public sealed record ListActionsResponse
{
    public required ActionResponse[] Actions { get; init; }
    public required int Count { get; init; }
    public string? Marker { get; init; }
}

public sealed record BacklogResponse
{
    [Description("Notifications that wait for the receiver.")] public required int Count { get; init; }
    public required long Bytes { get; init; }
    [Description("Absent while the receiver answers.")] public string? DownSince { get; init; }
}

public sealed record DeadLetterInfo
{
    public required string DeadLetterId { get; init; }
    public required string DeviceId { get; init; }
    public required string Reason { get; init; }
    public required string CreatedTime { get; init; }
    public required string DiedTime { get; init; }
    [Description("What the receiver would have been sent.")] public required JsonElement Notification { get; init; }
}

public sealed record ListDeadLettersResponse
{
    public required DeadLetterInfo[] DeadLetters { get; init; }
    public required int Count { get; init; }
    public string? Marker { get; init; }
}

public sealed record ReplayDeadLettersResponse
{
    public required int Replayed { get; init; }
}

public sealed record ForgetDeadLettersResponse
{
    public required int Forgotten { get; init; }
}

public sealed record CreateDeviceGroupRequest
{
    [MaxLength(64)] public required string Name { get; init; }
    [MaxLength(64)] public string? Description { get; init; }
    [MaxLength(36), Description("The group this one is in.")] public string? SuperGroupId { get; init; }
    [MaxLength(36)] public string? AppId { get; init; }
    [Description("STATIC.")] public string? GroupType { get; init; }
}

public sealed record UpdateDeviceGroupRequest
{
    [MaxLength(64)] public string? Name { get; init; }
    [MaxLength(64)] public string? Description { get; init; }
}

public sealed record DeviceGroupResponse
{
    public required string GroupId { get; init; }
    public required string Name { get; init; }
    public string? Description { get; init; }
    public string? SuperGroupId { get; init; }
    public required string GroupType { get; init; }
}

public sealed record ListDeviceGroupsResponse
{
    public required DeviceGroupResponse[] DeviceGroups { get; init; }
    public required PageInfo Page { get; init; }
}

public sealed record GroupedDevice
{
    public required string DeviceId { get; init; }
    public required string NodeId { get; init; }
    public string? DeviceName { get; init; }
    public required string ProductId { get; init; }
}

public sealed record ListGroupedDevicesResponse
{
    public required GroupedDevice[] Devices { get; init; }
    public required PageInfo Page { get; init; }
}

public sealed record CreateBatchTaskRequest
{
    [MaxLength(36)] public string? AppId { get; init; }
    [MaxLength(128)] public required string TaskName { get; init; }
    [Description("createMessages.")] public required string TaskType { get; init; }
    [Description("Device ids; without them targets_filter says who.")] public string[]? Targets { get; init; }
    public BatchTargetsFilter? TargetsFilter { get; init; }
    [Description("The message: a request body of CreateMessage.")] public required JsonElement Document { get; init; }
    public BatchTaskPolicy? TaskPolicy { get; init; }
}

public sealed record BatchTargetsFilter
{
    [MaxLength(100)] public string[]? GroupIds { get; init; }
    [MaxLength(100)] public string[]? ProductIds { get; init; }
}

public sealed record BatchTaskPolicy
{
    [Description("Such as 20151212T121212Z, within the next 7 days.")] public string? ScheduleTime { get; init; }
    [Range(0, 5), Description("How often a target that failed is asked again; goes with retry_interval.")] public int? RetryCount { get; init; }
    [Range(1, 1440), Description("Minutes.")] public int? RetryInterval { get; init; }
}

public sealed record BatchTaskInfo
{
    public string? AppId { get; init; }
    public required string TaskId { get; init; }
    public required string TaskName { get; init; }
    public required string TaskType { get; init; }
    [Description("Only in the answer to the task's creation.")] public string[]? Targets { get; init; }
    public BatchTargetsFilter? TargetsFilter { get; init; }
    public required JsonElement Document { get; init; }
    public BatchTaskPolicy? TaskPolicy { get; init; }
    [Description("Initializing, Waitting, Processing, Success, Fail, PartialSuccess, Stopping or Stopped.")] public required string Status { get; init; }
    public required string StatusDesc { get; init; }
    public required BatchTaskProgress TaskProgress { get; init; }
    public required string CreateTime { get; init; }
}

public sealed record BatchTaskProgress
{
    public required int Total { get; init; }
    public required int Processing { get; init; }
    public required int Success { get; init; }
    public required int Fail { get; init; }
    public required int Waitting { get; init; }
    public required int FailWaitRetry { get; init; }
    public required int Stopped { get; init; }
    public required int Removed { get; init; }
}

public sealed record ListBatchTasksResponse
{
    public required BatchTaskInfo[] Batchtasks { get; init; }
    public required PageInfo Page { get; init; }
}

public sealed record ShowBatchTaskResponse
{
    public required BatchTaskInfo Batchtask { get; init; }
    public required BatchTargetInfo[] TaskDetails { get; init; }
    public required PageInfo Page { get; init; }
}

public sealed record BatchTargetInfo
{
    public required string Target { get; init; }
    public required string Status { get; init; }
    [Description("JSON text with the message_id.")] public string? Output { get; init; }
    public ErrorInfoDto? Error { get; init; }
}

public sealed record ChangeBatchTaskRequest
{
    [MaxLength(100), Description("Device ids; default all.")] public string[]? Targets { get; init; }
}

public sealed record ChangeBatchTaskResponse
{
    public required ChangedBatchTarget[] Targets { get; init; }
}

public sealed record ChangedBatchTarget
{
    public required string Target { get; init; }
    [Description("success or failure.")] public required string Status { get; init; }
    public string? ErrorCode { get; init; }
    public string? ErrorMsg { get; init; }
}

public sealed record BroadcastRequest
{
    [MaxLength(36), Description("Only devices of this resource space.")] public string? AppId { get; init; }
    [MaxLength(128), Description("Begins with $oc/broadcast/.")] public required string TopicFullName { get; init; }
    [MaxLength(131072), Description("Base64.")] public required string Message { get; init; }
    [Range(0, 1440), Description("Minutes, a multiple of 5; default 0: only who is online now. Else at most 10 devices.")] public int? Ttl { get; init; }
    [RegularExpression("^[A-Za-z0-9_-]{1,100}$")] public string? MessageId { get; init; }
}

public sealed record BroadcastResponse
{
    public string? AppId { get; init; }
    public required string TopicFullName { get; init; }
    public required string MessageId { get; init; }
    public required string CreatedTime { get; init; }
}

public sealed record AddCertificateRequest
{
    [MaxLength(65535), Description("One or several certificates in PEM.")] public required string Content { get; init; }
    [MaxLength(36)] public string? AppId { get; init; }
}

public sealed record CertificateInfo
{
    public required string CertificateId { get; init; }
    public required string CnName { get; init; }
    public required string Owner { get; init; }
    [Description("Whether devices may log in with certificates of it: false.")] public required bool Status { get; init; }
    public required string CreateDate { get; init; }
    public required string EffectiveDate { get; init; }
    public required string ExpiryDate { get; init; }
}

public sealed record ListCertificatesResponse
{
    public required CertificateInfo[] Certificates { get; init; }
    public required PageInfo Page { get; init; }
}

public sealed record AddQueueRequest
{
    [RegularExpression("^[A-Za-z0-9_.:-]{8,128}$")] public required string QueueName { get; init; }
}

public sealed record QueueInfo
{
    public required string QueueId { get; init; }
    public required string QueueName { get; init; }
    public required string CreateTime { get; init; }
    public required string LastModifyTime { get; init; }
}

public sealed record ShowQueueResponse
{
    public string? QueueId { get; init; }
    public string? QueueName { get; init; }
    public string? CreateTime { get; init; }
    public string? LastModifyTime { get; init; }
}

public sealed record ListQueuesResponse
{
    public required QueueInfo[] Queues { get; init; }
    public required PageInfo Page { get; init; }
}

public sealed record CreateAccessCodeRequest
{
    [Description("AMQP.")] public string? Type { get; init; }
    [Description("Ends the connections of the project's consumers.")] public bool? ForceDisconnect { get; init; }
}

public sealed record AccessCodeResponse
{
    public required string AccessKey { get; init; }
    public required string AccessCode { get; init; }
}
