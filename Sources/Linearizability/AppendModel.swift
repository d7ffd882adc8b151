/// A sequence that grows: read, append and write. With numbers as elements it is a list, with bytes a string.
///
/// Appends tell more than writes: a read shows all that came before it, in order.
package struct AppendModel<Element: Hashable & Sendable>: Model {
    /// What can be asked of a sequence, with the answer.
    package enum Action: Hashable, Sendable {
        /// A read that answered this sequence; nil is “there is none”.
        case read([Element]?)
        /// Sets the sequence; nil deletes it.
        case write([Element]?)
        /// Adds at the end; what is not there begins empty.
        case append([Element])
    }

    /// A place in the tree of what the reads show.
    package struct State: Hashable, Sendable {
        fileprivate var node: Int32

        fileprivate static var missing: State { State(node: -1) }
        /// A sequence that is no beginning of any that was read: whatever it is exactly, no read fits until the next
        /// write.
        fileprivate static var unread: State { State(node: -2) }
        fileprivate static var empty: State { State(node: 0) }
    }

    private struct Branch: Hashable {
        var node: Int32
        var element: Element
    }

    private let initial: [Element]?
    /// The tree of all sequences that were read, and their beginnings; node 0 is the empty one.
    private var branches: [Branch: Int32] = [:]
    private var origins: [(node: Int32, element: Element)] = []

    /// - Parameter initial: the sequence before the history; nil is “there is none”.
    package init(initial: [Element]? = nil) { self.initial = initial }

    package var initialState: State { place(initial) }

    private func place(_ sequence: [Element]?) -> State { sequence.map { walk(.empty, $0) } ?? .missing }

    private func walk(_ state: State, _ sequence: [Element]) -> State {
        var state = state
        for element in sequence {
            guard let next = branches[Branch(node: state.node, element: element)] else { return .unread }
            state.node = next
        }
        return state
    }

    package func step(_ state: State, _ action: Action) -> State? {
        switch action {
        case .read(let sequence): state != .unread && place(sequence) == state ? state : nil
        case .write(let sequence): place(sequence)
        case .append(let sequence):
            if sequence.isEmpty && state == .missing {
                .empty
            } else if state == .unread {
                .unread
            } else {
                walk(state == .missing ? .empty : state, sequence)
            }
        }
    }

    /// Plants the tree, without which no read fits. Optional appends and writes whose elements no read shows are left
    /// out: while they showed, there was no read.
    package mutating func prepare(_ actions: [Action], isOptional: [Bool]) -> [Action?] {
        branches = [:]
        origins = []
        var elements: Set<Element> = []
        for case (.read(let sequence?), false) in zip(actions, isOptional) {
            plant(sequence)
            elements.formUnion(sequence)
        }
        return zip(actions, isOptional).map { action, isOptional in
            guard isOptional else { return action }
            switch action {
            case .read: return nil
            case .write(let sequence?), .append(let sequence):
                return sequence.allSatisfy(elements.contains) ? action : nil
            case .write(nil): return action
            }
        }
    }

    private mutating func plant(_ sequence: [Element]) {
        var node: Int32 = 0
        for element in sequence {
            let branch = Branch(node: node, element: element)
            if let next = branches[branch] {
                node = next
            } else {
                origins.append((node, element))
                node = Int32(origins.count)
                branches[branch] = node
            }
        }
    }

    package func mayChangeState(_ action: Action) -> Bool {
        if case .read = action { return false }
        return true
    }

    package func overwrites(_ action: Action) -> Bool {
        if case .write = action { return true }
        return false
    }

    package func mustStem(_ action: Action, from source: Action) -> Bool { false }

    package func relaxed(_ action: Action) -> Action? { nil }

    package func mayDepend(_ action: Action, on earlier: Action) -> Bool {
        guard case .read(let shown) = action else { return false }
        switch earlier {
        case .read: return false
        // Whatever was read was not behind what it deleted.
        case .write(nil): return true
        case .write(let sequence?): return shown.map { $0.starts(with: sequence) } ?? false
        case .append(let sequence): return shown.map { Self.contains($0, sequence) } ?? false
        }
    }

    private static func contains(_ sequence: [Element], _ part: [Element]) -> Bool {
        guard sequence.count >= part.count else { return false }
        return (0...sequence.count - part.count).contains { sequence[$0...].starts(with: part) }
    }

    // Contents are not told: appends make what was there longer.

    package func content(of state: State) -> State? { nil }

    package func contentNeeded(by action: Action) -> State? { nil }

    package func contentMade(by action: Action) -> State? { nil }

    package func describe(_ action: Action) -> String {
        switch action {
        case .read(let sequence): "read -> \(describe(sequence))"
        case .write(nil): "delete"
        case .write(let sequence): "write \(describe(sequence))"
        case .append(let sequence): "append \(describe(sequence))"
        }
    }

    package func describe(_ state: State) -> String {
        if state == .missing { return "nothing" }
        if state == .unread { return "a value that no read shows" }
        var sequence: [Element] = []
        var node = state.node
        while node > 0 {
            let origin = origins[Int(node) - 1]
            sequence.append(origin.element)
            node = origin.node
        }
        return describe(sequence.reversed())
    }

    private func describe(_ sequence: [Element]?) -> String {
        guard let sequence else { return "nothing" }
        if let bytes = sequence as? [UInt8] { return Quoted.text(bytes) }
        return "[" + sequence.map { "\($0)" }.joined(separator: " ") + "]"
    }
}

/// Values in reports.
enum Quoted {
    /// Text between quotation marks, long text shortened in its middle.
    static func text(_ bytes: some Collection<UInt8>) -> String {
        let text = String(decoding: bytes, as: UTF8.self)
        guard text.count > 100 else { return "“\(text)”" }
        return "“\(text.prefix(45)) … \(text.suffix(45))” (\(bytes.count) bytes)"
    }
}
