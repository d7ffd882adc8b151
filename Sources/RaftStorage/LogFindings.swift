internal import Glibc
internal import LMDB
package import Raft

/// What an examination of a log found, without opening it.
package struct LogFindings: Sendable {
    /// There is no log in the directory.
    package var isMissing = false
    /// A newer version of the program wrote it, which this one cannot judge.
    package var isNewer = false
    /// What is wrong, for people.
    package var damages: [String] = []
    package var notes: [String] = []
    package var identity: Identity?
    package var hardState: HardState?
    package var base: LogBase?
    package var entryCount: UInt64 = 0
    /// The last entry, or the base's position.
    package var last = LogPosition.zero
    package var fileBytes: UInt64 = 0
    /// Runs of one term: where each begins.
    private var runs: [LogPosition] = []
    private var position: LogPosition?

    package var isSound: Bool { damages.isEmpty && !isNewer && !isMissing }

    /// The term of an entry that is in the log, or of its base; nil for others.
    package func term(at index: LogIndex) -> Term? {
        guard let base, index >= base.position.index, index <= last.index else { return nil }
        if index == base.position.index { return base.position.term }
        return runs.last { $0.index <= index }?.term
    }

    fileprivate mutating func damage(_ text: String) {
        if damages.count < 100 { damages.append(text) }
    }

    fileprivate mutating func visit(_ key: UInt64, _ record: UnsafeRawBufferPointer) {
        do throws(StorageError) {
            if key == 0 {
                let metadata = try MetadataRecord(verifying: record)
                (identity, hardState, base) = (metadata.identity, metadata.hardState, metadata.base)
                (position, last) = (metadata.base.position, metadata.base.position)
                return
            }
            let entry = try EntryRecord(verifying: record, index: key)
            _ = try entry.info()
            // Without the record of identity, the order of entries can still be judged.
            let before = position ?? LogPosition(index: key - 1, term: entry.term)
            guard key > before.index || entryCount > 0 else { return }
            if key != before.index + 1 { damage("the log lacks entry \(before.index + 1)") }
            if entry.term < before.term || entry.term > hardState?.term ?? .max {
                damage("entry \(key) has term \(entry.term), after \(before) in term \(hardState?.term ?? 0)")
            }
            if runs.last?.term != entry.term { runs.append(LogPosition(index: key, term: entry.term)) }
            entryCount += 1
            last = LogPosition(index: key, term: entry.term)
            position = last
        } catch {
            if error.code == .newerFormat { isNewer = true }
            damage(key == 0 ? "the record of identity, term and vote: \(error.code)" : "entry \(key): \(error.code)")
            if key > 0, let before = position, key == before.index + 1 {
                position = LogPosition(index: key, term: before.term)
                last = LogPosition(index: key, term: before.term)
                entryCount += 1
            }
        }
    }
}

extension LogStore {
    /// Examines the log in `directory` and verifies every record of it, without opening it. It must not be in use; the lock is taken.
    package static func examine(
        directory: String,
        progress: ((_ done: UInt64, _ total: UInt64) -> Void)? = nil
    ) throws(StorageError) -> LogFindings {
        try storing {
            guard try exists(directory: directory) else {
                var findings = LogFindings()
                findings.isMissing = true
                return findings
            }
            let lock = try DirectoryLock(directory: directory)
            defer { lock.release() }
            var findings = LogFindings()
            var options = examination()
            options.progress = progress
            options.visit = { _, key, value in findings.visit(key.loadUnaligned(as: UInt64.self), value) }
            let report = try DataFile.examine(directory: directory, options)
            findings.damages = report.damages.map(\.description) + findings.damages
            findings.notes = report.notes
            if report.correction != nil {
                findings.notes.append("the records prove the transaction number; the next start puts it right")
            }
            if findings.identity == nil, findings.damages.isEmpty {
                findings.damages.append("there is no record of identity, term and vote")
            }
            findings.fileBytes = (report.pages) * 4096
            return findings
        }
    }
}
