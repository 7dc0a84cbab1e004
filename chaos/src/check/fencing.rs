//! Whether a write that carries a term was ever applied after a later term's write: the work of a leader that was paused,
//! replaced, and woke up.

use super::{Fault, Judge, history::FencedWrite};

const JUDGE: Judge = Judge("fencing");

/// Checks writes in any order; those without a fence count for the terms of their entries only.
///
/// # Errors
/// [`Fault::Broken`]: a write of a past term was applied, or of a term that is not its entry's, or one of the present term
/// was refused, or terms of entries go back.
pub fn check(writes: &[FencedWrite]) -> Result<(), Fault> {
    let mut writes: Vec<&FencedWrite> = writes.iter().collect();
    writes.sort_by_key(|write| write.position);
    let (mut entry_term, mut applied_term) = (0, 0);
    for write in writes {
        let FencedWrite { position, fence, entry_term: term, applied } = write;
        if let Some(term) = *term {
            JUDGE
                .demand(term >= entry_term, || format!("position {position} is of term {term}, after {entry_term}"))?;
            entry_term = term;
        }
        if *fence == 0 {
            JUDGE.demand(*applied, || format!("{write:?} carries no fence and was refused for it"))?;
            continue;
        }
        if *applied {
            JUDGE.demand(*fence >= applied_term.max(entry_term), || {
                format!("{write:?} was applied after writes of term {}", applied_term.max(entry_term))
            })?;
            applied_term = *fence;
        }
        JUDGE.demand(term.is_none_or(|term| (term == *fence) == *applied), || {
            format!("{write:?}: applied must be what carries its entry's term, and nothing else")
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn write(position: u64, fence: u64, entry_term: Option<u64>, applied: bool) -> FencedWrite {
        FencedWrite { position, fence, entry_term, applied }
    }

    #[test]
    fn histories() {
        let some = Some;
        let cases = [
            ("each in its term", vec![write(1, 1, some(1), true), write(2, 2, some(2), true)], None),
            ("a past one refused", vec![write(1, 2, some(2), true), write(2, 1, some(2), false)], None),
            (
                "entries not known",
                vec![write(1, 1, None, true), write(2, 3, None, true), write(3, 1, None, false)],
                None,
            ),
            ("without fences", vec![write(1, 0, some(1), true), write(2, 0, some(2), true)], None),
            ("recorded out of order", vec![write(2, 2, some(2), true), write(1, 1, some(1), true)], None),
            ("ignored", vec![write(1, 1, some(2), true)], Some("after writes of term 2")),
            ("a past one applied", vec![write(1, 2, None, true), write(2, 1, None, true)], Some("of term 2")),
            (
                "after an unfenced write of a later term",
                vec![write(1, 0, some(3), true), write(2, 2, None, true)],
                Some("of term 3"),
            ),
            ("a future one applied", vec![write(1, 3, some(2), true)], Some("nothing else")),
            ("the present one refused", vec![write(1, 2, some(2), false)], Some("nothing else")),
            ("refused without a fence", vec![write(1, 0, some(2), false)], Some("carries no fence")),
            ("terms go back", vec![write(1, 0, some(3), true), write(2, 0, some(2), true)], Some("after 3")),
        ];
        for (what, writes, words) in cases {
            let verdict = check(&writes).map_err(|fault| fault.to_string());
            assert_eq!(verdict.is_err(), words.is_some(), "{what}: {verdict:?}");
            assert!(words.is_none_or(|words| verdict.as_ref().unwrap_err().contains(words)), "{what}: {verdict:?}");
        }
    }
}
