//! Single changes: done twice, undone twice, half done, and in the way of somebody else.

use super::*;

fn inode(path: &Path) -> Option<u64> {
    Disk.inode(path).unwrap()
}

fn pair(root: &Path) -> (PathBuf, PathBuf) {
    let (live, kept) = (root.join("live"), root.join("kept"));
    std::fs::create_dir(&live).unwrap();
    std::fs::write(&kept, "new").unwrap();
    (live, kept)
}

#[test]
fn an_exchange_can_be_found_in_every_state() {
    // Where the old thing (o) and the new one (n) may be after a kill: at the live name, the kept name,
    // the third name.
    let states = ["on-", "no-", "-no", "n-o", "-on", "o-n"];
    for state in states {
        for side in [Side::Old, Side::New] {
            for can_exchange in [true, false] {
                let dir = tempfile::tempdir().unwrap();
                let root = dir.path().canonicalize().unwrap();
                let (live, kept) = pair(&root);
                let (old, new) = (inode(&live).unwrap(), inode(&kept).unwrap());
                let places = [live.clone(), kept.clone(), root.join("kept~")];
                std::fs::rename(&live, root.join("o")).unwrap();
                std::fs::rename(&kept, root.join("n")).unwrap();
                for (what, place) in state.chars().zip(&places) {
                    if what != '-' {
                        std::fs::rename(root.join(what.to_string()), place).unwrap();
                    }
                }
                let toy = Toy { can_exchange, ..Toy::new(&root) };
                let swap = Swap::Exchange { live: live.clone(), kept: kept.clone(), old, new };
                for _ in 0..2 {
                    swap.bring(side, &toy).unwrap();
                    let wanted = if side == Side::New { (new, old) } else { (old, new) };
                    assert_eq!((inode(&live), inode(&kept)), (Some(wanted.0), Some(wanted.1)), "{state} {side:?}");
                    assert_eq!(inode(&places[2]), None);
                }
            }
        }
    }
}

#[test]
fn a_stranger_is_never_moved() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let toy = Toy::new(&root);
    let (live, kept) = pair(&root);
    let strange = [
        Swap::Exchange { live: live.clone(), kept: kept.clone(), old: 1, new: inode(&kept).unwrap() },
        Swap::Exchange { live: live.clone(), kept: root.join("none"), old: inode(&live).unwrap(), new: 2 },
        Swap::Come { live: live.clone(), staged: kept.clone(), new: inode(&kept).unwrap() },
        Swap::Go { live: root.join("none"), kept: root.join("aside"), old: 3 },
    ];
    for swap in strange {
        assert!(matches!(swap.bring(Side::New, &toy), Err(Error::Strange { .. })), "{swap:?}");
    }
    assert!(live.is_dir() && kept.is_file());
}

#[test]
fn a_tag_keeps_the_image_that_had_it() {
    let toy = Toy::new(Path::new("/"));
    let swap = Swap::Tag {
        tag: "web:1".to_owned(),
        old: Some("old".to_owned()),
        new: Some("new".to_owned()),
        kept: "snap-rollback/r1/web:1".to_owned(),
    };
    toy.tag("old", "web:1").unwrap();
    for _ in 0..2 {
        swap.bring(Side::New, &toy).unwrap();
        assert_eq!(toy.image_of("web:1").unwrap().as_deref(), Some("new"));
        assert_eq!(toy.image_of("snap-rollback/r1/web:1").unwrap().as_deref(), Some("old"));
    }
    for _ in 0..2 {
        swap.bring(Side::Old, &toy).unwrap();
        assert_eq!(toy.image_of("web:1").unwrap().as_deref(), Some("old"));
    }
    toy.tag("somebody's", "web:1").unwrap();
    assert!(matches!(swap.bring(Side::New, &toy), Err(Error::StrangeTag { .. })));
    let came = Swap::Tag { tag: "db:1".to_owned(), old: None, new: Some("db".to_owned()), kept: "k".to_owned() };
    came.bring(Side::New, &toy).unwrap();
    came.bring(Side::Old, &toy).unwrap();
    assert_eq!(toy.image_of("db:1").unwrap(), None);
}
