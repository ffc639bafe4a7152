//! Generations, their timelines, and from where on these are archived.

use super::*;

#[test]
fn a_generation_begins_once_and_before_its_timelines_and_backups() {
    let timeline = Entry::TimelineBegun {
        generation: GENERATION.into(),
        timeline: 1,
        parent: None,
        switch: None,
    };
    void(Rule::Generation, &[generation()]);
    void(Rule::Generation, &[timeline.clone(), timeline]);
    let mut state = State::new();
    state.apply(&record(1, "host", start("a")));
    assert_eq!(
        state.apply(&record(2, "host", commit("a", &[]))),
        Verdict::Void(Rule::Generation)
    );
}

#[test]
fn a_timeline_is_archived_from_where_the_first_receiver_began() {
    let begun = |timeline, from| Entry::ArchivingBegun {
        generation: GENERATION.into(),
        timeline,
        from: Lsn(from),
    };
    let (state, verdict) = after(&[begun(1, 0x5000), begun(1, 0x7000), begun(2, 0x6000), begun(1, 0x3000)]);
    assert_eq!(verdict, Verdict::Valid);
    let from = |timeline| state.archived_from(GENERATION, timeline);
    assert_eq!(
        (from(1), from(2), from(3)),
        (Some(Lsn(0x3000)), Some(Lsn(0x6000)), None)
    );
    assert_eq!(state.archived_from("1", 1), None);
    let unknown = Entry::ArchivingBegun {
        generation: "1".into(),
        timeline: 1,
        from: Lsn(0),
    };
    void(Rule::Generation, &[unknown]);
}
