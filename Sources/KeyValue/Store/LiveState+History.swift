extension LiveState {
    /// Takes note of a change that is about to be made for good.
    mutating func noteInHistory(_ entry: MemtableEntry, over current: CurrentKey) {
        guard Space(rawValue: entry.space)?.hasHistory ?? false else { return }
        let replaced = current.isInActive ? active[current.position] : nil
        replacedBytes += UInt64(current.contentSize)
        log.append(entry, replaced: replaced, previousSize: current.contentSize)
        history.note(
            revision: record.mark.revision,
            time: record.mark.timestampMilliseconds,
            bytes: 128 + entry.contentSize - Int(entry.valueLength) + current.contentSize,
            historyBounds
        )
    }

    /// To be called behind each command, before anybody can read what it did.
    mutating func settleHistory() {
        log.settle()
        if replacedBytes > maximumReplacedBytes { forgetHistory() }
        replacedBytes = 0
        history.enforce(historyBounds, now: record.mark.timestampMilliseconds)
    }

    /// Lets the history begin behind the present revision.
    mutating func forgetHistory() {
        history.forget(upTo: record.mark.revision)
        log.forgetPrevious()
    }

    /// Forgets the history up to the frozen memtable's end, so that it can be flushed without. Nil when there is none.
    mutating func giveUpHistory() -> FrozenMemtable? {
        guard var rest = frozen, rest.history.last.revision > rest.history.floor.revision else { return nil }
        rest.history.raise(to: rest.history.last)
        history.raise(to: rest.history.last)
        frozen = rest
        return rest
    }
}
