internal import KeyValue
internal import Raft
internal import RaftStorage

/// What an examination of a data directory found.
package struct DirectoryReport: Sendable {
    package enum Verdict: String, Sendable { case ok, damaged, missing, newer }

    /// One part of the directory.
    package struct Part: Sendable {
        package var name: String
        package var verdict: Verdict
        /// What it holds, in a line.
        package var summary: String
        package var damages: [String]
        package var notes: [String]
    }

    /// What the next start does, or an operator must do.
    package enum Remedy: String, Sendable {
        case none
        /// The next start builds the state anew.
        case rebuildsItself = "rebuilds-itself"
        /// A damaged snapshot is passed over, and a new one taken.
        case newSnapshot = "new-snapshot"
        /// Only the other servers of the cluster can help.
        case rejoin
        /// There are no other servers.
        case salvage
        /// A newer version of the program is needed.
        case upgrade
    }

    package var directory: String
    package var parts: [Part] = []
    package var remedy = Remedy.none
    /// What can be done, a line each.
    package var advice: [String] = []
    /// Files and directories that belong to no part.
    package var leftovers: [String] = []

    package var isSound: Bool {
        parts.allSatisfy { $0.verdict == .ok || ($0.verdict == .missing && $0.damages.isEmpty) }
    }

    init(directory: String, _ log: LogFindings, _ state: StateFindings, _ snapshots: [SnapshotFinding]) {
        self.directory = directory
        parts = [Self.part(log), Self.part(state), Self.part(snapshots)]
        if log.isMissing, !state.isMissing {
            parts[0].damages.append("there is a state, but no log")
            parts[0].verdict = .damaged
        }
        let mismatch = Self.mismatch(log, state)
        if let mismatch {
            parts[1].verdict = .damaged
            parts[1].damages.append(mismatch)
        }
        if let gap = Self.gap(log, state, snapshots) {
            parts[1].verdict = .damaged
            parts[1].damages.append(gap)
        }
        advise(log, snapshots)
    }

    // MARK: Parts

    private static func part(_ log: LogFindings) -> Part {
        var text: [String] = []
        if let base = log.base {
            text.append("entries \(base.position.index + 1)–\(log.last.index), term \(log.hardState?.term ?? 0)")
        }
        if let identity = log.identity {
            text.append("server \(identity.serverID) “\(identity.name)” of cluster \(identity.clusterID)")
        }
        return Part(
            name: "log",
            verdict: verdict(log.isMissing, log.isNewer, log.damages),
            summary: log.isMissing ? "there is none" : text.joined(separator: ", "),
            damages: log.damages,
            notes: log.notes
        )
    }

    private static func part(_ state: StateFindings) -> Part {
        Part(
            name: "state",
            verdict: verdict(state.isMissing, state.isNewer, state.damages),
            summary: state.isMissing
                ? "there is none; it is built from the log"
                : "\(state.keyCount) keys with \(state.contentBytes) bytes, revision \(state.mark.revision), applied up to entry "
                    + "\(state.mark.index)",
            damages: state.damages,
            notes: state.notes + state.setAside.map { "\($0) was set aside before; remove it when nobody needs it" }
        )
    }

    private static func part(_ snapshots: [SnapshotFinding]) -> Part {
        let whole = snapshots.filter { $0.kind == .snapshot }
        let sound = whole.filter { $0.damage == nil }.compactMap { $0.header?.position.index }.sorted(by: >)
        let damages = whole.compactMap { finding in finding.damage.map { "\(finding.name): \($0)" } }
        var notes: [String] = []
        for finding in snapshots {
            switch finding.kind {
            case .snapshot: break
            case .incoming: notes.append("\(finding.name): a transfer that is not complete (\(finding.size) bytes)")
            case .temporary:
                notes.append("\(finding.name): left of one that was not finished; the next start removes it")
            case .setAside: notes.append("\(finding.name) was set aside before; remove it when nobody needs it")
            }
        }
        let list = sound.map { "at entry \($0)" }.joined(separator: ", ")
        return Part(
            name: "snapshots",
            verdict: verdict(whole.isEmpty, false, damages),
            summary: whole.isEmpty
                ? "there is none yet" : "\(sound.count) of \(whole.count) sound\(list.isEmpty ? "" : ": \(list)")",
            damages: damages,
            notes: notes
        )
    }

    private static func verdict(_ isMissing: Bool, _ isNewer: Bool, _ damages: [String]) -> Verdict {
        isNewer ? .newer : !damages.isEmpty ? .damaged : isMissing ? .missing : .ok
    }

    /// The state must stand at an entry of the log, or at its base.
    private static func mismatch(_ log: LogFindings, _ state: StateFindings) -> String? {
        guard log.isSound, state.isSound, let base = log.base, state.mark.index >= base.position.index else {
            return nil
        }
        guard log.term(at: state.mark.index) != state.mark.term else { return nil }
        return "it stands at entry \(state.mark.index) of term \(state.mark.term), which is not in the log"
    }

    /// A state that the log does not reach back to must be loaded from a snapshot.
    private static func gap(_ log: LogFindings, _ state: StateFindings, _ snapshots: [SnapshotFinding]) -> String? {
        let index = state.isMissing ? 0 : state.mark.index
        guard log.isSound, state.isSound || state.isMissing, let base = log.base?.position.index, index < base,
            newest(log, snapshots) == nil
        else { return nil }
        return
            "the log begins behind entry \(base), the state stands at entry \(index), and no snapshot that can be loaded leads "
            + "from one to the other"
    }

    /// The newest snapshot that can be loaded and that the log carries on from.
    private static func newest(_ log: LogFindings, _ snapshots: [SnapshotFinding]) -> LogPosition? {
        snapshots.filter { $0.kind == .snapshot && $0.damage == nil }
            .compactMap { $0.header?.position }
            .filter { log.term(at: $0.index) == $0.term }
            .max { $0.index < $1.index }
    }

    // MARK: What can be done

    private mutating func advise(_ log: LogFindings, _ snapshots: [SnapshotFinding]) {
        let (logPart, statePart, snapshotPart) = (parts[0], parts[1], parts[2])
        if parts.contains(where: { $0.verdict == .newer }) {
            remedy = .upgrade
            advice = ["A newer version of kontiki wrote this directory: start that one."]
            return
        }
        let isMember = (log.base?.configuration.voters.count ?? 2) > 1
        if logPart.verdict == .damaged {
            lead(isMember, "The log is damaged: this node must not go on with it, it may have lost what it promised.")
            return
        }
        guard logPart.verdict == .ok else { return }
        let newest = Self.newest(log, snapshots)
        let base = log.base?.position.index ?? 0
        if statePart.verdict == .damaged {
            guard base == 0 || newest != nil else {
                // One of another version's form may do for that version.
                let isForeign = snapshots.contains { $0.header.map { $0.schema != Store.snapshotSchema } ?? false }
                lead(
                    isMember,
                    "The state must be built anew, and no snapshot that can be loaded reaches the log's first entry, \(base + 1)."
                        + (isForeign ? " There is one of another version of kontiki: that version may start here." : "")
                )
                return
            }
            remedy = .rebuildsItself
            let source = newest.map { "the snapshot at entry \($0.index) and the log" } ?? "the log, which is complete"
            advice = [
                "Nothing is lost: start the node as always. It sets the damaged state aside and builds a new one from \(source)."
            ]
            return
        }
        if snapshotPart.verdict == .damaged {
            remedy = .newSnapshot
            advice = [
                "Nothing is lost: start the node as always. It sets the damaged snapshot aside and takes a new one."
            ]
        }
    }

    /// The node found its state to differ from that of the others, and wrote down what was seen.
    mutating func addQuarantine(_ text: String, _ log: LogFindings) {
        let reason =
            text.split(separator: "\n").first { $0.hasPrefix("reason: ") }?.dropFirst(8) ?? "its state is wrong"
        parts[1].verdict = .damaged
        parts[1].damages.insert("in quarantine: \(reason)", at: 0)
        guard remedy != .upgrade else { return }
        let isMember = (log.base?.configuration.voters.count ?? 2) > 1
        lead(isMember, "The state is not the one of the other servers, whatever its checksums say.")
    }

    private mutating func lead(_ isMember: Bool, _ what: String) {
        remedy = isMember ? .rejoin : .salvage
        advice = [what]
        if isMember {
            advice += [
                "If the cluster has a majority without it, let it rejoin as a new server; everything comes from the others:",
                "  kontiki serve (its options) --rejoin HOST:PORT[,HOST:PORT…]    peer addresses of other members",
                "The old content is kept in \(directory)/damaged-….",
            ]
        }
        advice += [
            isMember
                ? "If the majority is gone, what can be read of the state is written to a file, for a new cluster:"
                : "There is no other server to get the data from. Look for a backup first. What can be read of the state:",
            "  kontiki check \(directory) --salvage FILE.ndjson",
            "  kontiki serve (its options, with a new --data) --bootstrap",
            "  kontiki import FILE.ndjson",
        ]
    }
}
