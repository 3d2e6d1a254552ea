using IoTDelivery.Storage;

namespace IoTDelivery.Registry;

/// <summary>The registry's tables, step by step.</summary>
public static class RegistryMigrations
{
    public static readonly IReadOnlyList<Migration> All =
    [
        .. DeviceGroups.Migrations,
        new("registry", 1,
            "create table site_setting (name {id} not null primary key, value {text} not null)",
            "create table data_key (name {id} not null primary key, xml {text} not null)",
            """
            create table product (
              product_id {id} not null primary key, record_id {id} not null, project_id {id} not null, app_id {id}, name {text} not null, device_type {text} not null,
              protocol_type {text} not null, data_format {text} not null, service_capabilities {text} not null, manufacturer_name {text},
              industry {text}, description {text}, created_at {bigint} not null)
            """,
            "create index product_by_record on product (project_id, record_id)",
            """
            create table device (
              device_id {id} not null primary key, record_id {id} not null, project_id {id} not null, product_id {id} not null, node_id {id} not null,
              app_id {id}, gateway_id {id}, device_name {text}, description {text}, extension_info {text}, secret {text} not null,
              created_at {bigint} not null, phase {int} not null, online_node {id}, connection_id {guid}, active_at {bigint}, status_at {bigint})
            """,
            "create index device_by_record on device (project_id, record_id)",
            "create index device_by_product on device (product_id, record_id)"),
        new("registry", 2,
            """
            create table routing_rule (
              rule_id {id} not null primary key, record_id {id} not null, project_id {id} not null, rule_name {text}, description {text}, resource {id} not null,
              event {id} not null, app_type {id} not null, app_id {id}, select_part {text}, where_part {text}, active_since {bigint}, created_at {bigint} not null)
            """,
            "create index routing_rule_by_record on routing_rule (project_id, record_id)",
            "create table rule_activity (id {identity}, rule_id {id} not null, active_from {bigint} not null, active_to {bigint})",
            "create index rule_activity_by_rule on rule_activity (rule_id)",
            """
            create table routing_action (
              action_id {id} not null primary key, record_id {id} not null, rule_id {id} not null, project_id {id} not null, channel {id} not null,
              channel_detail {text} not null, url {text}, created_at {bigint} not null)
            """,
            "create index routing_action_by_record on routing_action (project_id, record_id)",
            "create index routing_action_by_rule on routing_action (rule_id)",
            // One row. Grows with every change of the three tables above: whoever holds a copy of them asks this number only.
            "create table rule_revision (id {int} not null primary key, revision {bigint} not null)",
            "insert into rule_revision (id, revision) values (1, 1)"),
        new("registry", 3,
            "alter table device add secondary_secret {text}",
            "alter table device add frozen_at {bigint}",
            "alter table device add root_id {id}",
            "alter table device add gateway_since {bigint}",
            "create index device_by_gateway on device (gateway_id, record_id)",
            "create index device_by_root on device (root_id)"),
        new("registry", 4,
            "alter table device add device_sdk_version {text}",
            "alter table device add sw_version {text}",
            "alter table device add fw_version {text}"),
        new("registry", 5,
            "create table device_life (life {identity}, device_id {id} not null)",
            "alter table device add life {bigint} default 0 not null",
            "create index device_by_phase on device (phase, device_id)"), // for what is unfinished, every few seconds
        new("registry", 6,
            "alter table device add logins_ended_by {bigint} default 0 not null"),
        .. StatusChanges.Migrations,
        .. SubDeviceList.Migrations,
        .. Certificates.Migrations,
        .. AmqpQueues.Migrations,
    ];
}
