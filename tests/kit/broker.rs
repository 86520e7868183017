//! A RabbitMQ node of the tests' own, from the package's own scripts: its name, ports and files are its own, it works
//! as any user, knows nothing of a broker that is installed beside it, and ends with its handle.

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
    existing::{Existing, Turn},
    keeper::Keeper,
    until,
};

/// The package's own scripts. What is on the path changes the user first.
const SCRIPTS: &str = "/usr/lib/rabbitmq/bin";

/// Names a folder with the files of another system, whose RabbitMQ is used instead.
const ROOT: &str = "IMAGESHARE_TEST_ROOT";

/// Runs a script in such a folder, in a mount namespace, as the same process. The files of the tests stay where they are.
const IN_ROOT: &str = r#"mount --rbind /dev "$1/dev" && mount -t proc proc "$1/proc" && mount --bind "$2" "$1$2" || exit
root=$1; shift 2
exec /usr/sbin/chroot "$root" sh -c 'cd "$0" && exec "$@"' "$PWD" "$0" "$@""#;

/// What the nodes and who asks them know from each other.
pub const COOKIE: &str = "imageshare";

/// How long the nodes of a broker bear another's silence. As it is by default, it is longer than a worker's heartbeat.
const TICK_SECONDS: u64 = 8;

/// The path of a script of the package.
fn script(name: &str) -> String {
    format!("{SCRIPTS}/{name}")
}

/// A command for a script of the RabbitMQ that is used, which takes more arguments.
pub(crate) fn command(name: &str) -> Vec<String> {
    let script = script(name);
    let Ok(root) = env::var(ROOT) else { return vec![script] };
    let folder = env::temp_dir().to_str().unwrap().to_owned();
    let in_root = ["unshare", "--mount", "sh", "-c", IN_ROOT].map(str::to_owned);
    [&in_root[..], &[script, root, folder]].concat()
}

/// A node. It ends with its handle.
pub struct Node {
    /// Clients' port, which stays over restarts.
    pub port: u16,
    /// Empty if it is not ours.
    name: String,
    existing: Option<Existing>,
    process: Mutex<Option<Child>>,
    /// Goes before the folder, in which its processes write.
    keeper: Keeper,
    folder: TempDir,
}

/// A virtual host of a node, with a user who may do anything there and nothing elsewhere.
pub struct Vhost<'a> {
    pub node: &'a Node,
    pub name: String,
    turn: Option<Turn>,
}

/// What a queue holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    /// Waits for a consumer.
    pub ready: u64,
    /// Is with a consumer.
    pub held: u64,
    pub consumers: u64,
}

impl Node {
    /// The node of all tests that do no harm to it. Each takes a virtual host.
    pub fn shared() -> &'static Self {
        static NODE: OnceLock<Node> = OnceLock::new();
        // Nobody drops it: its keeper ends it with the process.
        NODE.get_or_init(Self::start)
    }

    /// The broker that `IMAGESHARE_TEST_BROKER` names, or else [`Node::shared`].
    pub fn any() -> &'static Self {
        static NODE: OnceLock<Option<Node>> = OnceLock::new();
        NODE.get_or_init(|| Existing::of_environment().map(Self::existing)).as_ref().unwrap_or_else(Self::shared)
    }

    fn existing(existing: Existing) -> Self {
        Self { port: existing.port, existing: Some(existing), ..Self::without_files(String::new()) }
    }

    fn without_files(name: String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            port: free_port(),
            name,
            existing: None,
            process: Mutex::new(None),
            keeper: Keeper::new(Some(folder.path())),
            folder,
        }
    }

    /// A node of one's own, to be harmed.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// A node of one's own with more in its settings, such as a listener with TLS or a management interface.
    pub fn start_with(more: &str) -> Self {
        let [node] = Self::set_up(more);
        node.start_again();
        node
    }

    /// Three nodes that are one broker, of which a part that is cut off serves nobody.
    pub fn cluster() -> [Self; 3] {
        let nodes: [Self; 3] = Self::set_up("cluster_partition_handling = pause_minority\n");
        for node in &nodes {
            node.begin_to_start();
        }
        Self::until_one_broker(&nodes);
        nodes
    }

    /// Waits until all nodes serve as one broker. (One that was away comes back by a restart of its own, and the others
    /// may go through one too when they find that they do not all see the same nodes.)
    #[track_caller]
    pub fn until_one_broker(nodes: &[Self]) {
        for node in nodes {
            node.until_booted();
        }
        until("the nodes are one broker", || {
            let all = |node: &Self| node.try_eval("length(rabbit_nodes:all_running()).") == Ok(nodes.len().to_string());
            nodes.iter().all(all).then_some(())
        });
    }

    /// The files of nodes that know of each other.
    fn set_up<const COUNT: usize>(more: &str) -> [Self; COUNT] {
        static NODES: AtomicU32 = AtomicU32::new(0);
        let server = env::var(ROOT).unwrap_or_default() + &script("rabbitmq-server");
        assert!(Path::new(&server).exists(), "{server} is not here; tests/run installs the package rabbitmq-server");
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
        // RabbitMQ 4 takes 16 MiB unless it is told otherwise, the ones before it 128 MiB.
        let len_max = if more.contains("max_message_size") { "" } else { "max_message_size = 134217728\n" };
        let settings = format!(
            "{len_max}listeners.tcp.1 = 127.0.0.1:{port}\nloopback_users = none\ndisk_free_limit.absolute = 10MB\n\
             log.console = false\nlog.file = node.log\n{more}"
        );
        fs::write(file("rabbitmq.conf"), settings).unwrap();
        // A node that says nothing is given up by the others after this, or a quarter sooner or later.
        // RabbitMQ 4.3 keeps what a consumer at such a node holds for so long.
        let kept = 1000 * (TICK_SECONDS + 2);
        let advanced = format!(
            "[{{kernel, [{{net_ticktime, {TICK_SECONDS}}}]}}, {{rabbit, [{{consumer_disconnected_timeout, {kept}}}]}}].\n"
        );
        fs::write(file("advanced.config"), advanced).unwrap();
        node
    }

    /// Starts it on the files it had, and waits until it serves.
    #[track_caller]
    pub fn start_again(&self) {
        self.begin_to_start();
        self.until_booted();
    }

    /// Waits until it serves.
    #[track_caller]
    fn until_booted(&self) {
        until("the broker serves", || {
            let ended = self.process().as_mut().and_then(|process| process.try_wait().unwrap());
            let log = self.folder.path().join("node.log");
            assert_eq!(ended, None, "the broker ended; its log is {log:?}:\n{:?}", fs::read_to_string(&log));
            // A call costs more than a connection, and the port opens last.
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()?;
            self.try_eval("rabbit:is_booted().").ok().filter(|answer| answer == "true")
        });
    }

    /// Starts it and does not wait.
    fn begin_to_start(&self) {
        let mut process = self.process();
        assert!(process.is_none(), "the broker runs");
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
            .env("ERL_EPMD_PORT", names_port())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODENAME", &self.name)
            .env("RABBITMQ_DIST_PORT", free_port().to_string())
            .env("RABBITMQ_MNESIA_BASE", file("data"))
            .env("RABBITMQ_LOG_BASE", self.folder.path())
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", file("plugins"))
            .env("RABBITMQ_CONFIG_FILE", file("rabbitmq.conf"))
            // None of the machine's own settings.
            .env("RABBITMQ_CONF_ENV_FILE", file("none"))
            .env("RABBITMQ_CONFIG_FILES", file("none"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", file("advanced.config"))
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-start_epmd false")
            // The script then becomes the node, so that a signal to the process is a signal to the node.
            .env("RUNNING_UNDER_SYSTEMD", "true")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.keeper.keep(&mut server);
        *process = Some(server.spawn().unwrap());
    }

    /// Stops it in good order.
    #[track_caller]
    pub fn stop(&self) {
        self.signal("TERM");
        let mut process = self.process().take().unwrap();
        until("the broker stopped", || process.try_wait().unwrap());
    }

    /// Kills it.
    #[track_caller]
    pub fn kill(&self) {
        // The broker writes down half a second late which quorum queues it has: one that was declared just before would
        // be empty after a kill, whatever was confirmed, and without a leader for ever (measured).
        self.eval("[dets:sync(Table) || Table <- dets:all()].");
        let mut process = self.process().take().expect("the broker runs");
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Sends it a signal by its name.
    #[track_caller]
    pub fn signal(&self, name: &str) {
        let process = self.process().as_ref().expect("the broker runs").id();
        crate::program::signal(process, name);
    }

    /// A new virtual host with a name that no other test has, and its user.
    pub fn vhost(&self) -> Vhost<'_> {
        static VHOSTS: AtomicU32 = AtomicU32::new(0);
        if let Some(existing) = &self.existing {
            let vhost = Vhost { node: self, name: existing.vhost.clone(), turn: None };
            return Vhost { turn: Some(existing.turn(vhost.url())), ..vhost };
        }
        let name = format!("test-{}", VHOSTS.fetch_add(1, Ordering::Relaxed));
        self.eval(&format!("ok = rabbit_vhost:add(<<\"{name}\">>, <<\"kit\">>)."));
        let vhost = Vhost { node: self, name, turn: None };
        vhost.set_user(&vhost.name, [".*"; 3]);
        vhost
    }

    /// Cuts it off from other nodes of its broker, which may not come back before it is [`joined`](Self::join) again.
    pub fn cut_off(&self, others: &[&Self]) {
        for other in others {
            for (at, of) in [(self, other), (other, &self)] {
                at.eval(&format!("erlang:set_cookie('{}', cut_off_at_{}).", of.name, at.port));
            }
        }
        // All at once: while one of them still sees it, RabbitMQ before 4.3 cuts off the ones that do not from each other.
        let others = others.iter().map(|other| format!("'{}'", other.name)).collect::<Vec<_>>().join(", ");
        self.eval(&format!("[erlang:disconnect_node(Node) || Node <- [{others}]]."));
    }

    /// Lets it find the other nodes again.
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

    /// Runs an Erlang expression in the node and gives its value as text. (A call of `rabbitmqctl` would take seconds.)
    #[track_caller]
    pub fn eval(&self, expression: &str) -> String {
        self.try_eval(expression).unwrap_or_else(|said| panic!("{expression}\ngave {said}"))
    }

    /// The same at a node that may not be able to.
    fn try_eval(&self, expression: &str) -> Result<String, String> {
        // A caller with a name that the node still connects with the one before it gets no answer.
        const NAMES: u32 = 1000;
        static CALLS: AtomicU32 = AtomicU32::new(0);
        let caller = format!("kit{}", CALLS.fetch_add(1, Ordering::Relaxed) % NAMES);
        let mut call = Command::new("erl_call");
        // The package erlang-base puts it where no shell looks.
        call.env("PATH", "/usr/lib/erlang/bin:/usr/lib64/erlang/bin")
            .args(["-n", &self.name, "-h", &caller, "-c", COOKIE, "-timeout", "10", "-e"])
            .env("ERL_EPMD_PORT", names_port())
            .env("HOME", self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut call = call.spawn().expect("erl_call is where the package erlang-base puts it");
        // One that cannot connect ends without reading.
        drop(writeln!(call.stdin.take().unwrap(), "{expression}"));
        let output = call.wait_with_output().unwrap();
        let (text, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
        let value = text.trim().strip_prefix("{ok, ").and_then(|text| text.strip_suffix('}'));
        value.map(str::to_owned).ok_or_else(|| format!("{text}{said}"))
    }

    /// What `rabbitmqctl` has to know to find the node, beside the [`COOKIE`] in its user's home.
    pub fn control(&self) -> [(&'static str, String); 4] {
        let none = self.folder.path().join("none").to_str().unwrap().to_owned();
        [
            ("ERL_EPMD_PORT", names_port()),
            ("LANG", "C.UTF-8".to_owned()),
            ("RABBITMQ_CONF_ENV_FILE", none),
            ("RABBITMQ_NODENAME", self.name.clone()),
        ]
    }

    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The port of the process that knows the names of nodes. The one that a node starts by itself would stay for ever.
fn names_port() -> String {
    static NAMES: OnceLock<(u16, Child)> = OnceLock::new();
    let start = || {
        let port = free_port();
        let mut names = Command::new("epmd");
        names.args(["-address", "127.0.0.1", "-port", &port.to_string()]);
        Keeper::of_all_tests().keep(names.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
        let names = names.spawn().unwrap();
        until("names are kept", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok());
        (port, names)
    };
    NAMES.get_or_init(start).0.to_string()
}

/// The password of every user that the kit makes.
const PASSWORD: &str = "correct/horse:battery@staple";

impl Vhost<'_> {
    /// Where clients find it.
    pub fn url(&self) -> String {
        self.url_by(self.node.port)
    }

    /// The same through a relay.
    pub fn url_by(&self, port: u16) -> String {
        let Self { name, .. } = self;
        match &self.node.existing {
            Some(Existing { user, .. }) => format!("amqp://{user}@127.0.0.1:{port}/{name}"),
            None => format!("amqp://{name}:correct%2Fhorse%3Abattery%40staple@127.0.0.1:{port}/{name}"),
        }
    }

    /// Which of the nodes leads a quorum queue.
    #[track_caller]
    pub fn leader_of(&self, queue: &str, nodes: &[Node]) -> usize {
        let name = &self.name;
        until("the queue has a leader", || {
            let leader = self.node.eval(&format!(
                "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"{name}\">>, queue, <<\"{queue}\">>)), \
                 {{ok, _, {{_, Leader}}}} = ra:members(amqqueue:get_pid(Q)), Leader."
            ));
            nodes.iter().position(|node| leader.trim_matches('\'') == node.name)
        })
    }

    /// Gives its user another password, or the right one again.
    pub fn set_password(&self, right: bool) {
        let password = if right { PASSWORD } else { "another" };
        let name = &self.name;
        self.node.eval(&format!(
            "ok = rabbit_auth_backend_internal:change_password(<<\"{name}\">>, <<\"{password}\">>, <<\"kit\">>)."
        ));
    }

    /// Adds a user with these permissions (configure, write, read) to it, and gives the address for it.
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

    /// Sets a policy for its queues whose names match.
    pub fn set_policy(&self, queues: &str, definition: &[(&str, &str)]) {
        let definition: Vec<_> = definition.iter().map(|(key, value)| format!("{{<<\"{key}\">>, {value}}}")).collect();
        self.node.eval(&format!(
            "ok = rabbit_policy:set(<<\"{}\">>, <<\"kit\">>, <<\"{queues}\">>, [{}], 0, <<\"queues\">>, <<\"kit\">>).",
            self.name,
            definition.join(", ")
        ));
    }

    /// Takes that policy away, if it is there.
    pub fn clear_policy(&self) {
        let Self { node, name, .. } = self;
        node.eval(&format!("rabbit_policy:delete(<<\"{name}\">>, <<\"kit\">>, <<\"kit\">>)."));
    }

    /// What a quorum queue holds by its leader's state, which is never late. A node or a leader that is just gone is asked
    /// again.
    #[track_caller]
    pub fn depth(&self, queue: &str) -> Depth {
        let name = &self.name;
        until(&format!("the leader of {queue} says what it holds"), || {
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
            Some(Depth { ready, held, consumers })
        })
    }

    /// Whether its broker tells what a worker holds.
    pub const fn shows_held(&self) -> bool {
        self.turn.is_none()
    }

    /// Deletes it with its queues and its user, unless it is not ours.
    pub fn delete(self) {
        let name = &self.name;
        if !self.shows_held() {
            return;
        }
        self.node.eval(&format!(
            "rabbit_vhost:delete(<<\"{name}\">>, <<\"kit\">>), \
             rabbit_auth_backend_internal:delete_user(<<\"{name}\">>, <<\"kit\">>)."
        ));
    }

    /// Closes every connection to it, as an operator does.
    pub fn close_connections(&self) {
        let name = &self.name;
        self.node.eval(&format!(
            "[rabbit_networking:close_connection(Pid, \"closed by the test\") || Pid <- rabbit_networking:connections(), \
             (catch rabbit_reader:info(Pid, [vhost])) =:= [{{vhost, <<\"{name}\">>}}]]."
        ));
    }
}

/// A port that nobody uses, outside of the range from which the system takes ports for clients: what is stopped and
/// started again finds its port free.
pub fn free_port() -> u16 {
    listen_anywhere().1
}

/// The same while somebody listens there.
pub fn listen_anywhere() -> (TcpListener, u16) {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    // Runs side by side begin at different places.
    let begin = u16::try_from(std::process::id() % 200 * 97 % u32::from(COUNT)).unwrap();
    loop {
        let port = FIRST + (begin + TAKEN.fetch_add(1, Ordering::Relaxed)) % COUNT;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return (listener, port);
        }
    }
}
