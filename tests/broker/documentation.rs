//! The manual's commands that need a broker.

use kit::{
    BrokerNode, free_port, json_lines,
    shell::{KILL_JOBS_AT_EXIT, Shell, check_output_contains, commands_and_output, with_port},
    wait_until,
};

#[test]
fn readme_daemon_carries_out_published_jobs() {
    let vhost = BrokerNode::shared().vhost();
    let (commands, _) = commands_and_output("README.md", "imageshare sandbox");
    let broker = "amqp://guest:guest@localhost:5672/%2F";
    assert!(commands.contains(broker), "{commands}");
    let script = format!("{KILL_JOBS_AT_EXIT}{commands}").replace(broker, &vhost.url());
    let script = with_port(&with_port(&script, "9700", free_port()), "9701", free_port());
    let ended = Shell::new().run(&script).check(0);
    check_output_contains(
        &ended.stderr,
        "jobs      308   308 succeeded\naccounts  732   688 changed, 34 unchanged, 10 removed by SYNC\n",
    );
    // The sandbox also prints its address on standard output.
    let reports: String = ended.stdout.split_inclusive('\n').filter(|line| line.starts_with("{\"job_id")).collect();
    assert_eq!(json_lines(&reports).len(), 308);
}

#[test]
fn manual_topology_and_depth_commands_work() {
    let vhost = BrokerNode::shared().vhost();
    let shell = Shell::new().with_vhost(&vhost);
    let of_vhost = |text: &str| text.replace("VHOST", &vhost.name);
    let (commands, _) = commands_and_output("docs/jobs.md", "imageshare topology");
    shell.run(&commands).check(0);
    let (list_queues, output) = commands_and_output("docs/operations.md", "rabbitmqctl list_queues");
    let list_queues = of_vhost(&list_queues);
    wait_until("the imported queue exists", || {
        shell.run(&list_queues).stdout.contains("imageshare.jobs.default").then_some(())
    });
    let declared = shell.run("imageshare topology --declare").check(0).json();
    assert!(declared.iter().all(|line| line["state"] == "exists"), "{declared:?}");
    shell.run("imageshare publish examples/jobs.ndjson").check(0);
    let shown = output.unwrap().text;
    // The numbers of `list_queues` are some seconds old.
    wait_until("the queue has the shown depth", || {
        shell.run(&list_queues).stdout.contains(shown.trim_end()).then_some(())
    });
}
