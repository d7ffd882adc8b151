import Simulation

@testable import Raft

extension World {
    func runReport(_ command: String, _ words: inout Words) throws {
        if command == "waiting" {
            for message in network { lines.append("under way: \(text.text(message))") }
            for message in held { lines.append("held back: \(text.text(message))") }
            return
        }
        let numbers = try words.numbers()
        for number in numbers.isEmpty ? servers.map(\.number) : numbers {
            switch command {
            case "status": lines.append(try status(number))
            case "members": lines.append("\(number): members \(MessageText.text(try core(number).configuration))")
            default: try reportProgress(number)
            }
        }
    }

    /// `1 leader t2 vote 1 log 1.1 2.2..4 commit 2.4 applied 2.4`, and how much of the log is durable where it is not all.
    private func status(_ number: Int) throws -> String {
        let server = try server(number)
        guard let core = server.core else {
            let state = server.disk.log.hardState
            return "\(number) down t\(state.term) vote \(MessageText.text(state.vote)) "
                + "log \(MessageText.runs(server.disk.log.entries))"
        }
        func position(_ index: LogIndex) -> String {
            core.term(at: index).map { MessageText.text(LogPosition(index: index, term: $0)) } ?? "\(index)"
        }
        var text = "\(number) \(core.role)"
        if core.role == .follower { text += " of \(MessageText.text(core.leaderID))" }
        text += " t\(core.term) vote \(MessageText.text(core.hardState.vote))"
        if core.base.position.index > 0 { text += " snapshot \(MessageText.text(core.base.position))" }
        text += " log \(MessageText.runs(server.memory.entries))"
        if core.stableIndex < core.lastIndex, core.lastIndex > core.base.position.index {
            text += " durable to \(core.stableIndex)"
        }
        return text + " commit \(position(core.commitIndex)) applied \(position(core.appliedIndex))"
    }

    private func reportProgress(_ number: Int) throws {
        for peer in try core(number).peers {
            let state: String
            switch peer.state {
            case .probe(isWaiting: true): state = "probe, waiting"
            case .probe: state = "probe"
            case .replicate: state = "replicate"
            case .snapshot: state = "snapshot"
            }
            var line = "\(number): \(peer.id.rawValue) \(state), match \(peer.match) next \(peer.next)"
            if !peer.inFlight.isEmpty { line += " in flight \(peer.inFlight.count)" }
            if peer.departsAtTick != nil { line += " departing" }
            lines.append(line)
        }
    }
}
