//! Redis.

use super::harness::{Server, Store, arguments_with, detail, fails, rows};
use crate::need::{images, need};
use snap::stack::source::database::{Settings, summary};

fn server(password: &str) -> Server {
    let set = format!("REDIS_PASSWORD={password}");
    let command = "exec docker-entrypoint.sh redis-server --requirepass \"$REDIS_PASSWORD\"";
    let server = Server::start("redis", &["-e", &set, "snap-test/redis:7", "sh", "-c", command]);
    server.until("REDISCLI_AUTH=$REDIS_PASSWORD redis-cli PING | grep PONG");
    server
}

#[test]
fn keys_are_dumped_counted_and_proven() {
    need!(images());
    let server = server("canario-2d5a");
    let cli = "REDISCLI_AUTH=$REDIS_PASSWORD redis-cli";
    let fill = "for i = 1, 2000 do redis.call('SET', 'key' .. i, string.rep('v', i % 300)) end \
        for i = 1, 400 do redis.call('HSET', 'h', i, i); redis.call('RPUSH', 'l', i .. string.rep('x', 50)); \
        redis.call('ZADD', 'z', i / 7, i); redis.call('SADD', 's', i); redis.call('SADD', 't', 'm' .. i); \
        redis.call('XADD', 'x', '*', 'f', i) end redis.call('SADD', 'u', 'a', 'b') \
        redis.call('XGROUP', 'CREATE', 'x', 'g', '0') redis.call('XREADGROUP', 'GROUP', 'g', 'c', 'COUNT', 5, 'STREAMS', 'x', '>') \
        redis.call('SETEX', 'soon', 1000, 'v')";
    server.sh(&format!("{cli} EVAL \"{fill}\" 0; {cli} -n 3 SET other 1"));
    let (store, settings) = (Store::new(), Settings { database: Some("redis".into()), ..Settings::default() });
    // The server itself shows its own password, which is not ours to hide.
    let (first, seen) = arguments_with("canario-2d5a", || store.capture(&server, &settings));
    let first = first.expect("a capture");
    assert!(seen.iter().all(|line| line.contains("redis-server") || line.contains("docker")), "{seen:?}");
    assert_eq!(rows(&first, ""), [("db0", 2008), ("db3", 1)].map(|(n, r)| (n.to_owned(), r)).into());
    assert_eq!(summary(detail(&first)), "2,009 keys, verified");
    let files = store.files(&first);
    assert!(files["dump.rdb"].starts_with(b"REDIS00"));
    // Redis' own judge.
    std::fs::write("/tmp/.snap-it-db-dump.rdb", &files["dump.rdb"]).expect("a file");
    let into = format!("{}:/tmp/dump.rdb", server.name);
    super::harness::docker(&["cp", "/tmp/.snap-it-db-dump.rdb", &into]).expect("a copy");
    std::fs::remove_file("/tmp/.snap-it-db-dump.rdb").expect("a file");
    let judged = server.sh("redis-check-rdb /tmp/dump.rdb");
    assert!(judged.contains("2009 keys read") && judged.contains("Checksum OK"), "{judged}");
}

#[test]
fn every_bad_dump_is_told_from_a_good_one() {
    need!(images());
    let server = server("rootpassword");
    let fill = "for i = 1, 5000 do redis.call('SET', 'key:' .. i, string.rep('v', i % 90)) end";
    server.sh(&format!("REDISCLI_AUTH=$REDIS_PASSWORD redis-cli EVAL \"{fill}\" 0"));
    let (store, name) = (Store::new(), server.name.clone());
    let settings = Settings { database: Some("redis".into()), ..Settings::default() };
    let real = "/usr/bin/redis-cli \"$@\"";
    let fakes: [(&str, &[&str]); 6] = [
        ("exit 0", &["the dump is empty"]),
        ("$REAL | head -c 50000; exit 0", &["dump ended before its end"]),
        ("$REAL | head -c -49; exit 0", &["dump ended before its end"]),
        ("$REAL | sed 's/key:77/key:78/'; exit 0", &["sum over its bytes is wrong"]),
        ("$REAL; exit 1", &["exit code 1"]),
        ("echo NOAUTH Authentication required.", &["does not begin as Redis' dumps do"]),
    ];
    for (script, words) in fakes {
        let gate = format!("case \" $* \" in *INFO*) exec {real};; esac; {}", script.replace("$REAL", real));
        let _fake = server.fake("redis-cli", &gate);
        fails(store.capture(&server, &settings), &name, words);
    }
    let wrong = Settings { password_env: Some("PATH".into()), ..settings.clone() };
    fails(store.capture(&server, &wrong), &name, &["NOAUTH"]);
    store.capture(&server, &settings).expect("after all that it can still be captured");
}

#[test]
fn any_other_program_is_dumped_by_its_own_command() {
    need!(images());
    let server = Server::start("program", &["snap-test/python", "sleep", "1000"]);
    let (store, name) = (Store::new(), server.name.clone());
    let by = |command: &str| Settings { dump: Some(command.into()), ..Settings::default() };
    let captured = store.capture(&server, &by("seq 1 100000")).expect("a capture");
    let wanted: String = (1..=100_000).map(|n| format!("{n}\n")).collect();
    assert!(store.files(&captured)["dump"] == wanted.as_bytes());
    fails(store.capture(&server, &by("seq 1 1000; exit 4")), &name, &["exit code 4"]);
    fails(store.capture(&server, &by("true")), &name, &["the dump is empty"]);
    fails(store.capture(&server, &by("no-such-program")), &name, &["cannot be run"]);
}
