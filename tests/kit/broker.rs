//! RabbitMQ nodes that the tests start with the scripts of the installed package. A node has its own name, ports and files,
//! runs as any user, ignores the machine's own broker, and ends when its handle is dropped.

use std::{
    env,
    fmt::Write as _,
    fs,
    io::Write as _,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU16, AtomicU32, Ordering},
    },
};

use tempfile::TempDir;

use crate::{
    external_broker::{ExternalBroker, VhostLock},
    process_group::ProcessGroup,
    wait_until,
};

/// The package's scripts. Those in `PATH` are wrappers that change the user first.
const SCRIPTS: &str = "/usr/lib/rabbitmq/bin";

/// Variable that names the root folder of another system, whose RabbitMQ is used instead.
const ROOT: &str = "IMAGESHARE_TEST_ROOT";

/// Runs a script in such a root, in its own mount namespace, as the same process. The paths of the tests' files stay valid.
const IN_ROOT: &str = r#"mount --rbind /dev "$1/dev" && mount -t proc proc "$1/proc" && mount --bind "$2" "$1$2" || exit
root=$1; shift 2
exec /usr/sbin/chroot "$root" sh -c 'cd "$0" && exec "$@"' "$PWD" "$0" "$@""#;

/// The Erlang cookie of all nodes.
pub const COOKIE: &str = "imageshare";

/// How long a node may be silent before the others of its cluster drop it. Longer than a worker's heartbeat, as by default.
const TICK_SECONDS: u64 = 8;

fn script(name: &str) -> String {
    format!("{SCRIPTS}/{name}")
}

/// Returns the words that run a script of the selected RabbitMQ; arguments may follow.
pub(crate) fn command(name: &str) -> Vec<String> {
    let script = script(name);
    let Ok(root) = env::var(ROOT) else { return vec![script] };
    let folder = env::temp_dir().to_str().unwrap().to_owned();
    let in_root = ["unshare", "--mount", "sh", "-c", IN_ROOT].map(str::to_owned);
    [&in_root[..], &[script, root, folder]].concat()
}

/// A node. It is killed on drop.
pub struct BrokerNode {
    /// The port for clients. A restart keeps it.
    pub port: u16,
    /// Empty for an external broker.
    name: String,
    external: Option<ExternalBroker>,
    process: Mutex<Option<Child>>,
    /// Dropped before the folder, where its processes write.
    process_group: ProcessGroup,
    folder: TempDir,
}

/// A virtual host of a node, with a user who has every permission there and none elsewhere.
pub struct Vhost<'a> {
    pub node: &'a BrokerNode,
    pub name: String,
    lock: Option<VhostLock>,
}

/// The messages and consumers of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueDepth {
    /// Messages that wait for a consumer.
    pub ready: u64,
    /// Messages that were delivered and are not acknowledged.
    pub held: u64,
    pub consumers: u64,
}

impl BrokerNode {
    /// Returns the node that all scenarios share, each in its own virtual host.
    pub fn shared() -> &'static Self {
        static NODE: OnceLock<BrokerNode> = OnceLock::new();
        // A static is never dropped; the process group ends the node.
        NODE.get_or_init(Self::start)
    }

    /// Returns the broker that `IMAGESHARE_TEST_BROKER` names, or else [`BrokerNode::shared`].
    pub fn any() -> &'static Self {
        static NODE: OnceLock<Option<BrokerNode>> = OnceLock::new();
        NODE.get_or_init(|| ExternalBroker::from_env().map(Self::external)).as_ref().unwrap_or_else(Self::shared)
    }

    fn external(external: ExternalBroker) -> Self {
        Self { port: external.port, external: Some(external), ..Self::without_files(String::new()) }
    }

    fn without_files(name: String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            port: free_port(),
            name,
            external: None,
            process: Mutex::new(None),
            process_group: ProcessGroup::new(Some(folder.path())),
            folder,
        }
    }

    /// Starts a separate node, for a scenario that stops or reconfigures it.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// Starts a separate node with additional settings, such as a TLS listener or the management interface.
    pub fn start_with(more: &str) -> Self {
        let [node] = Self::set_up(more);
        node.start_again();
        node
    }

    /// Starts a cluster of three nodes. A minority that is cut off serves no client.
    pub fn cluster() -> [Self; 3] {
        let nodes: [Self; 3] = Self::set_up("cluster_partition_handling = pause_minority\n");
        for node in &nodes {
            node.spawn();
        }
        Self::wait_until_clustered(&nodes);
        nodes
    }

    /// Waits until all nodes form one cluster. (A node that was cut off restarts itself, and so may the others if they
    /// disagree about the members.)
    #[track_caller]
    pub fn wait_until_clustered(nodes: &[Self]) {
        for node in nodes {
            node.wait_until_booted();
        }
        wait_until("the nodes form one cluster", || {
            let all = |node: &Self| node.try_eval("length(rabbit_nodes:all_running()).") == Ok(nodes.len().to_string());
            nodes.iter().all(all).then_some(())
        });
    }

    /// Writes the files of nodes that form one cluster.
    fn set_up<const COUNT: usize>(more: &str) -> [Self; COUNT] {
        static NODES: AtomicU32 = AtomicU32::new(0);
        let server = env::var(ROOT).unwrap_or_default() + &script("rabbitmq-server");
        assert!(Path::new(&server).exists(), "{server} is missing; tests/run installs the package rabbitmq-server");
        let nodes: [String; COUNT] = std::array::from_fn(|_| {
            let number = NODES.fetch_add(1, Ordering::Relaxed);
            format!("imageshare-{}-{number}@localhost", std::process::id())
        });
        let mut more = more.to_owned();
        if COUNT > 1 {
            more.push_str("cluster_formation.peer_discovery_backend = classic_config\n");
            for (number, node) in nodes.iter().enumerate() {
                writeln!(more, "cluster_formation.classic_config.nodes.{} = {node}", number + 1).unwrap();
            }
        }
        nodes.map(|name| Self::with_files(name, &more))
    }

    fn with_files(name: String, more: &str) -> Self {
        let node = Self::without_files(name);
        let (file, port) = (|name: &str| node.folder.path().join(name), node.port);
        let cookie = file(".erlang.cookie");
        fs::write(&cookie, COOKIE).unwrap();
        fs::set_permissions(&cookie, fs::Permissions::from_mode(0o400)).unwrap();
        let plugin = if more.contains("management.") { "rabbitmq_management" } else { "" };
        fs::write(file("plugins"), format!("[{plugin}].\n")).unwrap();
        // The default is 16 MiB in RabbitMQ 4, and 128 MiB before.
        let len_max = if more.contains("max_message_size") { "" } else { "max_message_size = 134217728\n" };
        let settings = format!(
            "{len_max}listeners.tcp.1 = 127.0.0.1:{port}\nloopback_users = none\ndisk_free_limit.absolute = 10MB\n\
             log.console = false\nlog.file = node.log\n{more}"
        );
        fs::write(file("rabbitmq.conf"), settings).unwrap();
        // The others drop a silent node after the tick time, give or take a quarter. RabbitMQ 4.3 keeps the unacknowledged
        // messages of a consumer at such a node until the second timeout.
        let kept = 1000 * (TICK_SECONDS + 2);
        let advanced = format!(
            "[{{kernel, [{{net_ticktime, {TICK_SECONDS}}}]}}, {{rabbit, [{{consumer_disconnected_timeout, {kept}}}]}}].\n"
        );
        fs::write(file("advanced.config"), advanced).unwrap();
        node
    }

    /// Starts the node again with its files, and waits until it serves clients.
    #[track_caller]
    pub fn start_again(&self) {
        self.spawn();
        self.wait_until_booted();
    }

    /// Waits until the node serves clients.
    #[track_caller]
    fn wait_until_booted(&self) {
        wait_until("the broker serves clients", || {
            let ended = self.process().as_mut().and_then(|process| process.try_wait().unwrap());
            let log = self.folder.path().join("node.log");
            assert_eq!(ended, None, "the broker ended; its log is {log:?}:\n{:?}", fs::read_to_string(&log));
            // The port opens last, and a connection costs less than a call.
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()?;
            self.try_eval("rabbit:is_booted().").ok().filter(|answer| answer == "true")
        });
    }

    /// Starts the process and does not wait.
    fn spawn(&self) {
        let mut process = self.process();
        assert!(process.is_none(), "the broker is already running");
        let file = |name: &str| self.folder.path().join(name);
        let command = command("rabbitmq-server");
        let mut server = Command::new(&command[0]);
        server
            .args(&command[1..])
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .env("LANG", "C.UTF-8")
            .env("ERL_EPMD_PORT", epmd_port())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODENAME", &self.name)
            .env("RABBITMQ_DIST_PORT", free_port().to_string())
            .env("RABBITMQ_MNESIA_BASE", file("data"))
            .env("RABBITMQ_LOG_BASE", self.folder.path())
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", file("plugins"))
            .env("RABBITMQ_CONFIG_FILE", file("rabbitmq.conf"))
            // Ignore the machine's own settings.
            .env("RABBITMQ_CONF_ENV_FILE", file("none"))
            .env("RABBITMQ_CONFIG_FILES", file("none"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", file("advanced.config"))
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-start_epmd false")
            // Makes the script exec the node, so that signals reach the node.
            .env("RUNNING_UNDER_SYSTEMD", "true")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.process_group.add(&mut server);
        *process = Some(server.spawn().unwrap());
    }

    /// Stops the node with SIGTERM and waits until it exits.
    #[track_caller]
    pub fn stop(&self) {
        self.signal("TERM");
        let mut process = self.process().take().unwrap();
        wait_until("the broker stopped", || process.try_wait().unwrap());
    }

    /// Kills the node.
    #[track_caller]
    pub fn kill(&self) {
        // The broker writes its list of quorum queues half a second late. Without this, a queue declared just before the
        // kill would be empty and without a leader for ever, whatever was confirmed (measured).
        self.eval("[dets:sync(Table) || Table <- dets:all()].");
        let mut process = self.process().take().expect("the broker is running");
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Sends a signal to the node, such as `STOP`.
    #[track_caller]
    pub fn signal(&self, name: &str) {
        let process = self.process().as_ref().expect("the broker is running").id();
        crate::program::signal(process, name);
    }

    /// Creates a virtual host and its user.
    pub fn vhost(&self) -> Vhost<'_> {
        static VHOSTS: AtomicU32 = AtomicU32::new(0);
        if let Some(external) = &self.external {
            let vhost = Vhost { node: self, name: external.vhost.clone(), lock: None };
            return Vhost { lock: Some(external.lock(vhost.url())), ..vhost };
        }
        let name = format!("test-{}", VHOSTS.fetch_add(1, Ordering::Relaxed));
        self.eval(&format!("ok = rabbit_vhost:add(<<\"{name}\">>, <<\"kit\">>)."));
        let vhost = Vhost { node: self, name, lock: None };
        vhost.set_user(&vhost.name, [".*"; 3]);
        vhost
    }

    /// Cuts the node off from others of its cluster until they [`join`](Self::join) again.
    pub fn cut_off(&self, others: &[&Self]) {
        for other in others {
            for (at, of) in [(self, other), (other, &self)] {
                at.eval(&format!("erlang:set_cookie('{}', cut_off_at_{}).", of.name, at.port));
            }
        }
        // In one call: RabbitMQ before 4.3 also separates nodes that disagree about whether this one is alive.
        let others = others.iter().map(|other| format!("'{}'", other.name)).collect::<Vec<_>>().join(", ");
        self.eval(&format!("[erlang:disconnect_node(BrokerNode) || BrokerNode <- [{others}]]."));
    }

    /// Lets the node connect to the others again.
    pub fn join(&self, others: &[&Self]) {
        for other in others {
            for (at, of) in [(self, other), (other, &self)] {
                at.eval(&format!("erlang:set_cookie('{}', {COOKIE}).", of.name));
            }
        }
    }

    /// Raises the memory alarm, or clears it.
    pub fn memory_alarm(&self, raised: bool) {
        let share = if raised { "0.000001" } else { "0.4" };
        self.eval(&format!("vm_memory_monitor:set_vm_memory_high_watermark({share})."));
    }

    /// Returns the major and minor version of RabbitMQ.
    pub fn version(&self) -> [u32; 2] {
        let text = self.eval("rabbit_misc:version().");
        let mut numbers = text.trim_matches('"').split('.').map(|number| number.parse().unwrap());
        std::array::from_fn(|_| numbers.next().unwrap())
    }

    /// Evaluates an Erlang expression in the node and returns its value as text. (`rabbitmqctl` would take seconds.)
    #[track_caller]
    pub fn eval(&self, expression: &str) -> String {
        self.try_eval(expression).unwrap_or_else(|error| panic!("{expression}\n{error}"))
    }

    /// As [`Self::eval`], for a node that may be down.
    fn try_eval(&self, expression: &str) -> Result<String, String> {
        // The node does not answer a caller whose name it still associates with an earlier one.
        const NAMES: u32 = 1000;
        static CALLS: AtomicU32 = AtomicU32::new(0);
        let caller = format!("kit{}", CALLS.fetch_add(1, Ordering::Relaxed) % NAMES);
        let mut call = Command::new("erl_call");
        // The package erlang-base installs it outside of the default PATH.
        call.env("PATH", "/usr/lib/erlang/bin:/usr/lib64/erlang/bin")
            .args(["-n", &self.name, "-h", &caller, "-c", COOKIE, "-timeout", "10", "-e"])
            .env("ERL_EPMD_PORT", epmd_port())
            .env("HOME", self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut call = call.spawn().expect("the package erlang-base installs erl_call");
        // The call ends without reading if it cannot connect.
        drop(writeln!(call.stdin.take().unwrap(), "{expression}"));
        let output = call.wait_with_output().unwrap();
        let (text, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
        let value = text.trim().strip_prefix("{ok, ").and_then(|text| text.strip_suffix('}'));
        value.map(str::to_owned).ok_or_else(|| format!("{text}{errors}"))
    }

    /// Returns the variables with which `rabbitmqctl` reaches the node. It also needs the [`COOKIE`] in its home folder.
    pub fn rabbitmqctl_env(&self) -> [(&'static str, String); 4] {
        let none = self.folder.path().join("none").to_str().unwrap().to_owned();
        [
            ("ERL_EPMD_PORT", epmd_port()),
            ("LANG", "C.UTF-8".to_owned()),
            ("RABBITMQ_CONF_ENV_FILE", none),
            ("RABBITMQ_NODENAME", self.name.clone()),
        ]
    }

    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts epmd once and returns its port. An epmd that a node starts by itself would never end.
fn epmd_port() -> String {
    static EPMD: OnceLock<(u16, Child)> = OnceLock::new();
    let start = || {
        let port = free_port();
        let mut epmd = Command::new("epmd");
        epmd.args(["-address", "127.0.0.1", "-port", &port.to_string()]);
        ProcessGroup::shared().add(epmd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
        let epmd = epmd.spawn().unwrap();
        wait_until("epmd serves", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok());
        (port, epmd)
    };
    EPMD.get_or_init(start).0.to_string()
}

/// The password of every user that the tests create.
pub const PASSWORD: &str = "correct/horse:battery@staple";

/// Another password.
pub const WRONG_PASSWORD: &str = "another";

impl Vhost<'_> {
    /// Returns the address for clients.
    pub fn url(&self) -> String {
        self.url_with_port(self.node.port)
    }

    /// Returns the address with another port, such as that of a relay.
    pub fn url_with_port(&self, port: u16) -> String {
        let Self { name, .. } = self;
        match &self.node.external {
            Some(ExternalBroker { user, .. }) => format!("amqp://{user}@127.0.0.1:{port}/{name}"),
            None => format!("amqp://{name}:correct%2Fhorse%3Abattery%40staple@127.0.0.1:{port}/{name}"),
        }
    }

    /// Returns the index of the node that leads a quorum queue.
    #[track_caller]
    pub fn leader_of(&self, queue: &str, nodes: &[BrokerNode]) -> usize {
        let name = &self.name;
        wait_until("the queue has a leader", || {
            let leader = self.node.eval(&format!(
                "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"{name}\">>, queue, <<\"{queue}\">>)), \
                 {{ok, _, {{_, Leader}}}} = ra:members(amqqueue:get_pid(Q)), Leader."
            ));
            nodes.iter().position(|node| leader.trim_matches('\'') == node.name)
        })
    }

    /// Changes the password of the user.
    pub fn set_password(&self, password: &str) {
        let name = &self.name;
        self.node.eval(&format!(
            "ok = rabbit_auth_backend_internal:change_password(<<\"{name}\">>, <<\"{password}\">>, <<\"kit\">>)."
        ));
    }

    /// Adds a user with permissions (configure, write, read), and returns the address for this user.
    pub fn add_user(&self, user: &str, permissions: [&str; 3]) -> String {
        let name = &self.name;
        let user = format!("{name}-{user}");
        self.set_user(&user, permissions);
        self.url().replacen(&format!("//{name}:"), &format!("//{user}:"), 1)
    }

    /// Adds a user or changes its permissions (configure, write, read).
    pub fn set_user(&self, user: &str, permissions: [&str; 3]) {
        let [configure, write, read] = permissions.map(|names| names.replace('\\', "\\\\"));
        self.node.eval(&format!(
            "catch rabbit_auth_backend_internal:add_user(<<\"{user}\">>, <<\"{PASSWORD}\">>, <<\"kit\">>), \
             ok = rabbit_auth_backend_internal:set_permissions(<<\"{user}\">>, <<\"{}\">>, <<\"{configure}\">>, \
             <<\"{write}\">>, <<\"{read}\">>, <<\"kit\">>).",
            self.name
        ));
    }

    /// Sets the policy of the queues whose names match a pattern.
    pub fn set_policy(&self, queues: &str, definition: &[(&str, &str)]) {
        let definition: Vec<_> = definition.iter().map(|(key, value)| format!("{{<<\"{key}\">>, {value}}}")).collect();
        self.node.eval(&format!(
            "ok = rabbit_policy:set(<<\"{}\">>, <<\"kit\">>, <<\"{queues}\">>, [{}], 0, <<\"queues\">>, <<\"kit\">>).",
            self.name,
            definition.join(", ")
        ));
    }

    /// Removes the policy, if there is one.
    pub fn clear_policy(&self) {
        let Self { node, name, .. } = self;
        node.eval(&format!("rabbit_policy:delete(<<\"{name}\">>, <<\"kit\">>, <<\"kit\">>)."));
    }

    /// Returns the depth of a quorum queue from its leader's state, which is never stale. Retries while there is no leader.
    #[track_caller]
    pub fn depth(&self, queue: &str) -> QueueDepth {
        let name = &self.name;
        wait_until(&format!("the leader of {queue} returns its depth"), || {
            let text = self.node.try_eval(&format!(
                "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"{name}\">>, queue, <<\"{queue}\">>)), \
                 {{Server, _}} = amqqueue:get_pid(Q), \
                 {{ok, {{_, State}}, _}} = ra:leader_query({{Server, node()}}, {{rabbit_fifo, overview, []}}), \
                 list_to_tuple([maps:get(Key, State) || Key <- [num_ready_messages, num_checked_out, num_consumers]])."
            ));
            let text = text.ok()?;
            let numbers: Vec<u64> =
                text.trim_matches(['{', '}']).split(',').filter_map(|number| number.trim().parse().ok()).collect();
            let [ready, held, consumers] = numbers[..] else { panic!("{queue}: {text}") };
            Some(QueueDepth { ready, held, consumers })
        })
    }

    /// Whether the broker can be inspected beyond AMQP, which an external one cannot.
    pub const fn can_inspect(&self) -> bool {
        self.lock.is_none()
    }

    /// Deletes the virtual host, its queues and its user, unless the broker is external.
    pub fn delete(self) {
        let name = &self.name;
        if !self.can_inspect() {
            return;
        }
        self.node.eval(&format!(
            "rabbit_vhost:delete(<<\"{name}\">>, <<\"kit\">>), \
             rabbit_auth_backend_internal:delete_user(<<\"{name}\">>, <<\"kit\">>)."
        ));
    }

    /// Closes every connection, as an operator may.
    pub fn close_connections(&self) {
        let name = &self.name;
        self.node.eval(&format!(
            "[rabbit_networking:close_connection(Pid, \"closed by the test\") || Pid <- rabbit_networking:connections(), \
             (catch rabbit_reader:info(Pid, [vhost])) =:= [{{vhost, <<\"{name}\">>}}]]."
        ));
    }
}

/// Returns an unused port outside of the range of ephemeral ports, so that a server can be restarted on it.
pub fn free_port() -> u16 {
    bind_free_port().1
}

/// Binds such a port.
pub fn bind_free_port() -> (TcpListener, u16) {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    // Concurrent test runs start at different offsets.
    let begin = u16::try_from(std::process::id() % 200 * 97 % u32::from(COUNT)).unwrap();
    loop {
        let port = FIRST + (begin + TAKEN.fetch_add(1, Ordering::Relaxed)) % COUNT;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return (listener, port);
        }
    }
}
