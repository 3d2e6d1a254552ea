-- Every table of IoTDelivery.Akka on SqlServer. Made by `dotnet IoTDelivery.Host.dll schema --provider SqlServer`: do not edit.
-- For sites where the program may not create tables (Storage:CreateTables=false). The owner of an empty database runs it as a whole; when a later
-- release misses steps, its start names them: run the sections with these names, in this order. The program's user needs select, insert, update and
-- delete on all tables, nothing else.
set xact_abort on; begin transaction;
create table schema_version (box varchar(256) collate Latin1_General_BIN2 not null, version int not null, applied_at bigint not null, primary key (box, version));

-- groups 1
create table device_group (
  group_id varchar(256) collate Latin1_General_BIN2 not null primary key, record_id varchar(256) collate Latin1_General_BIN2 not null, project_id varchar(256) collate Latin1_General_BIN2 not null, app_id varchar(256) collate Latin1_General_BIN2, name nvarchar(max) not null, name_key varchar(256) collate Latin1_General_BIN2 not null,
  description nvarchar(max), super_group_id varchar(256) collate Latin1_General_BIN2, created_at bigint not null);
create unique index device_group_by_name on device_group (name_key);
create index device_group_by_record on device_group (project_id, record_id);
create index device_group_by_super on device_group (super_group_id);
create table device_group_member (group_id varchar(256) collate Latin1_General_BIN2 not null, device_id varchar(256) collate Latin1_General_BIN2 not null, record_id varchar(256) collate Latin1_General_BIN2 not null, primary key (group_id, device_id));
create index device_group_member_by_record on device_group_member (group_id, record_id);
create index device_group_member_by_device on device_group_member (device_id);
insert into schema_version (box, version, applied_at) values ('groups', 1, datediff_big(millisecond, '1970-01-01', sysutcdatetime()));

-- registry 1
create table site_setting (name varchar(256) collate Latin1_General_BIN2 not null primary key, value nvarchar(max) not null);
create table data_key (name varchar(256) collate Latin1_General_BIN2 not null primary key, xml nvarchar(max) not null);
create table product (
  product_id varchar(256) collate Latin1_General_BIN2 not null primary key, record_id varchar(256) collate Latin1_General_BIN2 not null, project_id varchar(256) collate Latin1_General_BIN2 not null, app_id varchar(256) collate Latin1_General_BIN2, name nvarchar(max) not null, device_type nvarchar(max) not null,
  protocol_type nvarchar(max) not null, data_format nvarchar(max) not null, service_capabilities nvarchar(max) not null, manufacturer_name nvarchar(max),
  industry nvarchar(max), description nvarchar(max), created_at bigint not null);
create index product_by_record on product (project_id, record_id);
create table device (
  device_id varchar(256) collate Latin1_General_BIN2 not null primary key, record_id varchar(256) collate Latin1_General_BIN2 not null, project_id varchar(256) collate Latin1_General_BIN2 not null, product_id varchar(256) collate Latin1_General_BIN2 not null, node_id varchar(256) collate Latin1_General_BIN2 not null,
  app_id varchar(256) collate Latin1_General_BIN2, gateway_id varchar(256) collate Latin1_General_BIN2, device_name nvarchar(max), description nvarchar(max), extension_info nvarchar(max), secret nvarchar(max) not null,
  created_at bigint not null, phase int not null, online_node varchar(256) collate Latin1_General_BIN2, connection_id uniqueidentifier, active_at bigint, status_at bigint);
create index device_by_record on device (project_id, record_id);
create index device_by_product on device (product_id, record_id);
insert into schema_version (box, version, applied_at) values ('registry', 1, datediff_big(millisecond, '1970-01-01', sysutcdatetime()));

-- registry 2
create table routing_rule (
  rule_id varchar(256) collate Latin1_General_BIN2 not null primary key, record_id varchar(256) collate Latin1_General_BIN2 not null, project_id varchar(256) collate Latin1_General_BIN2 not null, rule_name nvarchar(max), description nvarchar(max), resource varchar(256) collate Latin1_General_BIN2 not null,
  event varchar(256) collate Latin1_General_BIN2 not null, app_type varchar(256) collate Latin1_General_BIN2 not null, app_id varchar(256) collate Latin1_General_BIN2, select_part nvarchar(max), where_part nvarchar(max), active_since bigint, created_at bigint not null);
create index routing_rule_by_record on routing_rule (project_id, record_id);
create table rule_activity (id bigint identity primary key, rule_id varchar(256) collate Latin1_General_BIN2 not null, active_from bigint not null, active_to bigint);
create index rule_activity_by_rule on rule_activity (rule_id);
create table routing_action (
  action_id varchar(256) collate Latin1_General_BIN2 not null primary key, record_id varchar(256) collate Latin1_General_BIN2 not null, rule_id varchar(256) collate Latin1_General_BIN2 not null, project_id varchar(256) collate Latin1_General_BIN2 not null, channel varchar(256) collate Latin1_General_BIN2 not null,
  channel_detail nvarchar(max) not null, url nvarchar(max), created_at bigint not null);
create index routing_action_by_record on routing_action (project_id, record_id);
create index routing_action_by_rule on routing_action (rule_id);
create table rule_revision (id int not null primary key, revision bigint not null);
insert into rule_revision (id, revision) values (1, 1);
insert into schema_version (box, version, applied_at) values ('registry', 2, datediff_big(millisecond, '1970-01-01', sysutcdatetime()));

-- registry 3
alter table device add secondary_secret nvarchar(max);
alter table device add frozen_at bigint;
alter table device add root_id varchar(256) collate Latin1_General_BIN2;
alter table device add gateway_since bigint;
create index device_by_gateway on device (gateway_id, record_id);
create index device_by_root on device (root_id);
insert into schema_version (box, version, applied_at) values ('registry', 3, datediff_big(millisecond, '1970-01-01', sysutcdatetime()));

-- registry 4
alter table device add device_sdk_version nvarchar(max);
alter table device add sw_version nvarchar(max);
alter table device add fw_version nvarchar(max);
insert into schema_version (box, version, applied_at) values ('registry', 4, datediff_big(millisecond, '1970-01-01', sysutcdatetime()));

-- registry 5
create table device_life (life bigint identity primary key, device_id varchar(256) collate Latin1_General_BIN2 not null);
alter table device add life bigint default 0 not null;
create index device_by_phase on device (phase, device_id);
insert into schema_version (box, version, applied_at) values ('registry', 5, datediff_big(millisecond, '1970-01-01', sysutcdatetime()));

-- registry 6
alter table device add logins_ended_by bigint default 0 not null;
insert into schema_version (box, version, applied_at) values ('registry', 6, datediff_big(millisecond, '1970-01-01', sysutcdatetime()));

-- device-status 1
create table device_status_change (
  device_id varchar(256) collate Latin1_General_BIN2 not null primary key, status varchar(256) collate Latin1_General_BIN2 not null, changed_at bigint not null, last_online_at bigint not null);
create index device_status_change_in_order on device_status_change (changed_at);
insert into schema_version (box, version, applied_at) values ('device-status', 1, datediff_big(millisecond, '1970-01-01', sysutcdatetime()));

-- sub-devices 1
alter table device add sub_device_version bigint default 0 not null;
create table sub_device_change (
  device_id varchar(256) collate Latin1_General_BIN2 not null, gateway_id varchar(256) collate Latin1_General_BIN2 not null, version bigint not null, node_id varchar(256) collate Latin1_General_BIN2 not null, parent_id varchar(256) collate Latin1_General_BIN2 not null,
  deleted_at bigint, primary key (gateway_id, device_id));
create index sub_device_change_in_order on sub_device_change (gateway_id, version);
insert into sub_device_change (device_id, gateway_id, version, node_id, parent_id)
  select device_id, root_id, row_number() over (partition by root_id order by record_id), node_id, gateway_id
  from device where root_id is not null and gateway_id is not null and phase = 0;
update device set sub_device_version =
  (select count(*) from sub_device_change c where c.gateway_id = device.device_id)
  where gateway_since is not null;
insert into schema_version (box, version, applied_at) values ('sub-devices', 1, datediff_big(millisecond, '1970-01-01', sysutcdatetime()));

-- certificate 1
create table certificate (
  certificate_id varchar(256) collate Latin1_General_BIN2 not null primary key, record_id varchar(256) collate Latin1_General_BIN2 not null, project_id varchar(256) collate Latin1_General_BIN2 not null, app_id varchar(256) collate Latin1_General_BIN2, content nvarchar(max) not null, created_at bigint not null);
create index certificate_by_record on certificate (project_id, record_id);
insert into schema_version (box, version, applied_at) values ('certificate', 1, datediff_big(millisecond, '1970-01-01', sysutcdatetime()));

-- amqp 1
create table amqp_queue (
  queue_id varchar(256) collate Latin1_General_BIN2 not null primary key, record_id varchar(256) collate Latin1_General_BIN2 not null, project_id varchar(256) collate Latin1_General_BIN2 not null, queue_name varchar(256) collate Latin1_General_BIN2 not null, created_at bigint not null);
create unique index amqp_queue_by_name on amqp_queue (project_id, queue_name);
create index amqp_queue_by_record on amqp_queue (project_id, record_id);
create table amqp_access (
  project_id varchar(256) collate Latin1_General_BIN2 not null primary key, access_key varchar(256) collate Latin1_General_BIN2 not null, code_hash varchar(256) collate Latin1_General_BIN2 not null, disconnects int not null, created_at bigint not null);
create unique index amqp_access_by_key on amqp_access (access_key);
insert into schema_version (box, version, applied_at) values ('amqp', 1, datediff_big(millisecond, '1970-01-01', sysutcdatetime()));

-- journal 1
create table journal (
  ordering bigint identity primary key, created bigint not null, deleted bit not null, persistence_id varchar(256) collate Latin1_General_BIN2 not null, sequence_number bigint not null,
  message varbinary(max) not null, tags nvarchar(max), manifest nvarchar(max), identifier int, writer_uuid nvarchar(max));
create unique index journal_uq on journal (persistence_id, sequence_number);
create index journal_created_idx on journal (created);
create index journal_sequence_number_idx on journal (sequence_number);
insert into schema_version (box, version, applied_at) values ('journal', 1, datediff_big(millisecond, '1970-01-01', sysutcdatetime()));

-- journal 2
create table snapshot (
  persistence_id varchar(256) collate Latin1_General_BIN2 not null, sequence_number bigint not null, created datetime2 not null, snapshot varbinary(max), manifest nvarchar(max), serializer_id int,
  primary key (persistence_id, sequence_number));
create index snapshot_created_idx on snapshot (created);
create index snapshot_sequence_number_idx on snapshot (sequence_number);
insert into schema_version (box, version, applied_at) values ('journal', 2, datediff_big(millisecond, '1970-01-01', sysutcdatetime()));

-- journal 3
drop index if exists journal_created_idx on journal;
drop index if exists journal_sequence_number_idx on journal;
drop index if exists snapshot_created_idx on snapshot;
drop index if exists snapshot_sequence_number_idx on snapshot;
insert into schema_version (box, version, applied_at) values ('journal', 3, datediff_big(millisecond, '1970-01-01', sysutcdatetime()));

-- devices 1
create table wake_up (device_id varchar(256) collate Latin1_General_BIN2 not null primary key, due_at bigint not null, token varchar(256) collate Latin1_General_BIN2 not null);
create index wake_up_by_due on wake_up (due_at);
insert into schema_version (box, version, applied_at) values ('devices', 1, datediff_big(millisecond, '1970-01-01', sysutcdatetime()));

-- devices 2
create table snapshot_log (persistence_id varchar(256) collate Latin1_General_BIN2 not null, sequence_nr bigint not null, taken_at bigint not null, primary key (persistence_id, sequence_nr));
create index snapshot_log_by_time on snapshot_log (taken_at);
insert into schema_version (box, version, applied_at) values ('devices', 2, datediff_big(millisecond, '1970-01-01', sysutcdatetime()));

-- devices 3
create table reminder (device_id varchar(256) collate Latin1_General_BIN2 not null primary key, due_at bigint not null, token varchar(256) collate Latin1_General_BIN2 not null);
create index reminder_by_due on reminder (due_at);
insert into reminder (device_id, due_at, token) select device_id, due_at, token from wake_up;
drop table wake_up;
insert into schema_version (box, version, applied_at) values ('devices', 3, datediff_big(millisecond, '1970-01-01', sysutcdatetime()));

-- cluster 1
create table cluster_node (
    address varchar(256) collate Latin1_General_BIN2 not null primary key, cluster_uid varchar(256) collate Latin1_General_BIN2 not null, incarnation varchar(256) collate Latin1_General_BIN2 not null, machine varchar(256) collate Latin1_General_BIN2 not null,
    process int not null, started_at bigint not null, beat_at bigint not null, is_downed int not null);
create table cluster_formed (id int not null primary key, cluster_uid varchar(256) collate Latin1_General_BIN2 not null);
insert into cluster_formed (id, cluster_uid) values (1, '');
insert into schema_version (box, version, applied_at) values ('cluster', 1, datediff_big(millisecond, '1970-01-01', sysutcdatetime()));

-- push 1
create table push_backlog (
  id bigint identity primary key, action_id varchar(256) collate Latin1_General_BIN2 not null, device_id varchar(256) collate Latin1_General_BIN2 not null, n bigint not null, body varbinary(max) not null, bytes int not null, created_at bigint not null);
create index push_backlog_in_order on push_backlog (action_id, id, bytes);
create unique index push_backlog_once on push_backlog (action_id, device_id, n);
create table push_dead_letter (
  id bigint identity primary key, action_id varchar(256) collate Latin1_General_BIN2 not null, device_id varchar(256) collate Latin1_General_BIN2 not null, n bigint not null, body varbinary(max) not null, bytes int not null, created_at bigint not null,
  reason nvarchar(max) not null, died_at bigint not null);
create unique index push_dead_letter_once on push_dead_letter (action_id, device_id, n);
create index push_dead_letter_in_order on push_dead_letter (action_id, id);
create table push_breaker (action_id varchar(256) collate Latin1_General_BIN2 not null primary key, opened_at bigint not null);
insert into schema_version (box, version, applied_at) values ('push', 1, datediff_big(millisecond, '1970-01-01', sysutcdatetime()));

-- push 2
create index push_backlog_by_device on push_backlog (action_id, device_id, id);
insert into schema_version (box, version, applied_at) values ('push', 2, datediff_big(millisecond, '1970-01-01', sysutcdatetime()));

-- batch 1
create table batch_task (
  task_id varchar(256) collate Latin1_General_BIN2 not null primary key, project_id varchar(256) collate Latin1_General_BIN2 not null, app_id varchar(256) collate Latin1_General_BIN2, task_name nvarchar(max) not null, targets nvarchar(max), targets_filter nvarchar(max), document nvarchar(max) not null,
  schedule_at bigint, retry_count int not null, retry_interval int not null, status int not null, total int not null, created_at bigint not null);
create index batch_task_by_project on batch_task (project_id, task_id);
create index batch_task_by_status on batch_task (status, task_id);
create table batch_target (
  task_id varchar(256) collate Latin1_General_BIN2 not null, n int not null, target varchar(256) collate Latin1_General_BIN2 not null, status int not null, refusals int not null, due_at bigint, refusal int, problem nvarchar(max),
  primary key (task_id, n));
create index batch_target_by_due on batch_target (task_id, due_at);
create index batch_target_by_status on batch_target (task_id, status);
insert into schema_version (box, version, applied_at) values ('batch', 1, datediff_big(millisecond, '1970-01-01', sysutcdatetime()));

commit;
