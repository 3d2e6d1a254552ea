-- Every table of IoTDelivery.Akka on Sqlite. Made by `dotnet IoTDelivery.Host.dll schema --provider Sqlite`: do not edit.
-- For sites where the program may not create tables (Storage:CreateTables=false). The owner of an empty database runs it as a whole; when a later
-- release misses steps, its start names them: run the sections with these names, in this order. The program's user needs select, insert, update and
-- delete on all tables, nothing else.
begin;
create table schema_version (box text not null, version integer not null, applied_at integer not null, primary key (box, version));

-- groups 1
create table device_group (
  group_id text not null primary key, record_id text not null, project_id text not null, app_id text, name text not null, name_key text not null,
  description text, super_group_id text, created_at integer not null);
create unique index device_group_by_name on device_group (name_key);
create index device_group_by_record on device_group (project_id, record_id);
create index device_group_by_super on device_group (super_group_id);
create table device_group_member (group_id text not null, device_id text not null, record_id text not null, primary key (group_id, device_id));
create index device_group_member_by_record on device_group_member (group_id, record_id);
create index device_group_member_by_device on device_group_member (device_id);
insert into schema_version (box, version, applied_at) values ('groups', 1, cast((julianday('now') - 2440587.5) * 86400000 as integer));

-- registry 1
create table site_setting (name text not null primary key, value text not null);
create table data_key (name text not null primary key, xml text not null);
create table product (
  product_id text not null primary key, record_id text not null, project_id text not null, app_id text, name text not null, device_type text not null,
  protocol_type text not null, data_format text not null, service_capabilities text not null, manufacturer_name text,
  industry text, description text, created_at integer not null);
create index product_by_record on product (project_id, record_id);
create table device (
  device_id text not null primary key, record_id text not null, project_id text not null, product_id text not null, node_id text not null,
  app_id text, gateway_id text, device_name text, description text, extension_info text, secret text not null,
  created_at integer not null, phase integer not null, online_node text, connection_id text, active_at integer, status_at integer);
create index device_by_record on device (project_id, record_id);
create index device_by_product on device (product_id, record_id);
insert into schema_version (box, version, applied_at) values ('registry', 1, cast((julianday('now') - 2440587.5) * 86400000 as integer));

-- registry 2
create table routing_rule (
  rule_id text not null primary key, record_id text not null, project_id text not null, rule_name text, description text, resource text not null,
  event text not null, app_type text not null, app_id text, select_part text, where_part text, active_since integer, created_at integer not null);
create index routing_rule_by_record on routing_rule (project_id, record_id);
create table rule_activity (id integer primary key autoincrement, rule_id text not null, active_from integer not null, active_to integer);
create index rule_activity_by_rule on rule_activity (rule_id);
create table routing_action (
  action_id text not null primary key, record_id text not null, rule_id text not null, project_id text not null, channel text not null,
  channel_detail text not null, url text, created_at integer not null);
create index routing_action_by_record on routing_action (project_id, record_id);
create index routing_action_by_rule on routing_action (rule_id);
create table rule_revision (id integer not null primary key, revision integer not null);
insert into rule_revision (id, revision) values (1, 1);
insert into schema_version (box, version, applied_at) values ('registry', 2, cast((julianday('now') - 2440587.5) * 86400000 as integer));

-- registry 3
alter table device add secondary_secret text;
alter table device add frozen_at integer;
alter table device add root_id text;
alter table device add gateway_since integer;
create index device_by_gateway on device (gateway_id, record_id);
create index device_by_root on device (root_id);
insert into schema_version (box, version, applied_at) values ('registry', 3, cast((julianday('now') - 2440587.5) * 86400000 as integer));

-- registry 4
alter table device add device_sdk_version text;
alter table device add sw_version text;
alter table device add fw_version text;
insert into schema_version (box, version, applied_at) values ('registry', 4, cast((julianday('now') - 2440587.5) * 86400000 as integer));

-- registry 5
create table device_life (life integer primary key autoincrement, device_id text not null);
alter table device add life integer default 0 not null;
create index device_by_phase on device (phase, device_id);
insert into schema_version (box, version, applied_at) values ('registry', 5, cast((julianday('now') - 2440587.5) * 86400000 as integer));

-- registry 6
alter table device add logins_ended_by integer default 0 not null;
insert into schema_version (box, version, applied_at) values ('registry', 6, cast((julianday('now') - 2440587.5) * 86400000 as integer));

-- device-status 1
create table device_status_change (
  device_id text not null primary key, status text not null, changed_at integer not null, last_online_at integer not null);
create index device_status_change_in_order on device_status_change (changed_at);
insert into schema_version (box, version, applied_at) values ('device-status', 1, cast((julianday('now') - 2440587.5) * 86400000 as integer));

-- sub-devices 1
alter table device add sub_device_version integer default 0 not null;
create table sub_device_change (
  device_id text not null, gateway_id text not null, version integer not null, node_id text not null, parent_id text not null,
  deleted_at integer, primary key (gateway_id, device_id));
create index sub_device_change_in_order on sub_device_change (gateway_id, version);
insert into sub_device_change (device_id, gateway_id, version, node_id, parent_id)
  select device_id, root_id, row_number() over (partition by root_id order by record_id), node_id, gateway_id
  from device where root_id is not null and gateway_id is not null and phase = 0;
update device set sub_device_version =
  (select count(*) from sub_device_change c where c.gateway_id = device.device_id)
  where gateway_since is not null;
insert into schema_version (box, version, applied_at) values ('sub-devices', 1, cast((julianday('now') - 2440587.5) * 86400000 as integer));

-- certificate 1
create table certificate (
  certificate_id text not null primary key, record_id text not null, project_id text not null, app_id text, content text not null, created_at integer not null);
create index certificate_by_record on certificate (project_id, record_id);
insert into schema_version (box, version, applied_at) values ('certificate', 1, cast((julianday('now') - 2440587.5) * 86400000 as integer));

-- amqp 1
create table amqp_queue (
  queue_id text not null primary key, record_id text not null, project_id text not null, queue_name text not null, created_at integer not null);
create unique index amqp_queue_by_name on amqp_queue (project_id, queue_name);
create index amqp_queue_by_record on amqp_queue (project_id, record_id);
create table amqp_access (
  project_id text not null primary key, access_key text not null, code_hash text not null, disconnects integer not null, created_at integer not null);
create unique index amqp_access_by_key on amqp_access (access_key);
insert into schema_version (box, version, applied_at) values ('amqp', 1, cast((julianday('now') - 2440587.5) * 86400000 as integer));

-- journal 1
create table journal (
  ordering integer primary key autoincrement, created integer not null, deleted bit not null, persistence_id text not null, sequence_number integer not null,
  message blob not null, tags text, manifest text, identifier integer, writer_uuid text);
create unique index journal_uq on journal (persistence_id, sequence_number);
create index journal_created_idx on journal (created);
create index journal_sequence_number_idx on journal (sequence_number);
insert into schema_version (box, version, applied_at) values ('journal', 1, cast((julianday('now') - 2440587.5) * 86400000 as integer));

-- journal 2
create table snapshot (
  persistence_id text not null, sequence_number integer not null, created integer not null, snapshot blob, manifest text, serializer_id integer,
  primary key (persistence_id, sequence_number));
create index snapshot_created_idx on snapshot (created);
create index snapshot_sequence_number_idx on snapshot (sequence_number);
insert into schema_version (box, version, applied_at) values ('journal', 2, cast((julianday('now') - 2440587.5) * 86400000 as integer));

-- journal 3
drop index if exists journal_created_idx;
drop index if exists journal_sequence_number_idx;
drop index if exists snapshot_created_idx;
drop index if exists snapshot_sequence_number_idx;
insert into schema_version (box, version, applied_at) values ('journal', 3, cast((julianday('now') - 2440587.5) * 86400000 as integer));

-- devices 1
create table wake_up (device_id text not null primary key, due_at integer not null, token text not null);
create index wake_up_by_due on wake_up (due_at);
insert into schema_version (box, version, applied_at) values ('devices', 1, cast((julianday('now') - 2440587.5) * 86400000 as integer));

-- devices 2
create table snapshot_log (persistence_id text not null, sequence_nr integer not null, taken_at integer not null, primary key (persistence_id, sequence_nr));
create index snapshot_log_by_time on snapshot_log (taken_at);
insert into schema_version (box, version, applied_at) values ('devices', 2, cast((julianday('now') - 2440587.5) * 86400000 as integer));

-- devices 3
create table reminder (device_id text not null primary key, due_at integer not null, token text not null);
create index reminder_by_due on reminder (due_at);
insert into reminder (device_id, due_at, token) select device_id, due_at, token from wake_up;
drop table wake_up;
insert into schema_version (box, version, applied_at) values ('devices', 3, cast((julianday('now') - 2440587.5) * 86400000 as integer));

-- cluster 1
create table cluster_node (
    address text not null primary key, cluster_uid text not null, incarnation text not null, machine text not null,
    process integer not null, started_at integer not null, beat_at integer not null, is_downed integer not null);
create table cluster_formed (id integer not null primary key, cluster_uid text not null);
insert into cluster_formed (id, cluster_uid) values (1, '');
insert into schema_version (box, version, applied_at) values ('cluster', 1, cast((julianday('now') - 2440587.5) * 86400000 as integer));

-- push 1
create table push_backlog (
  id integer primary key autoincrement, action_id text not null, device_id text not null, n integer not null, body blob not null, bytes integer not null, created_at integer not null);
create index push_backlog_in_order on push_backlog (action_id, id, bytes);
create unique index push_backlog_once on push_backlog (action_id, device_id, n);
create table push_dead_letter (
  id integer primary key autoincrement, action_id text not null, device_id text not null, n integer not null, body blob not null, bytes integer not null, created_at integer not null,
  reason text not null, died_at integer not null);
create unique index push_dead_letter_once on push_dead_letter (action_id, device_id, n);
create index push_dead_letter_in_order on push_dead_letter (action_id, id);
create table push_breaker (action_id text not null primary key, opened_at integer not null);
insert into schema_version (box, version, applied_at) values ('push', 1, cast((julianday('now') - 2440587.5) * 86400000 as integer));

-- push 2
create index push_backlog_by_device on push_backlog (action_id, device_id, id);
insert into schema_version (box, version, applied_at) values ('push', 2, cast((julianday('now') - 2440587.5) * 86400000 as integer));

-- batch 1
create table batch_task (
  task_id text not null primary key, project_id text not null, app_id text, task_name text not null, targets text, targets_filter text, document text not null,
  schedule_at integer, retry_count integer not null, retry_interval integer not null, status integer not null, total integer not null, created_at integer not null);
create index batch_task_by_project on batch_task (project_id, task_id);
create index batch_task_by_status on batch_task (status, task_id);
create table batch_target (
  task_id text not null, n integer not null, target text not null, status integer not null, refusals integer not null, due_at integer, refusal integer, problem text,
  primary key (task_id, n));
create index batch_target_by_due on batch_target (task_id, due_at);
create index batch_target_by_status on batch_target (task_id, status);
insert into schema_version (box, version, applied_at) values ('batch', 1, cast((julianday('now') - 2440587.5) * 86400000 as integer));

commit;
