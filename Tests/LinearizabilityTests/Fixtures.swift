import Linearizability

/// A generator whose numbers follow from a seed (SplitMix64).
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }

    mutating func chance(_ probability: Double) -> Bool { Double.random(in: 0..<1, using: &self) < probability }
}

/// Tries all orders, with neither memory nor shortcuts: what the checker is held against.
enum BruteForce {
    static func isLinearizable<M: Model, State>(
        _ history: History<M>,
        from initial: State,
        step: (State, M.Action) -> State?
    ) -> Bool {
        var isLeft = history.operations.map { _ in true }
        func search(_ state: State) -> Bool {
            let left = history.operations.indices.filter { isLeft[$0] }
            let end = left.compactMap { history.operations[$0].returned }.min()
            guard let end else { return true }
            for index in left where history.operations[index].call <= end {
                guard let next = step(state, history.operations[index].action) else { continue }
                isLeft[index] = false
                defer { isLeft[index] = true }
                if search(next) { return true }
            }
            return false
        }
        return search(initial)
    }
}

/// The shape of a history: who is called when, and when it returns.
struct Shape {
    var operations: Int
    var clients: Int
    /// How likely the outcome of an operation is unknown.
    var unknown = 0.0
    /// How likely the next event is a return rather than a call: small means much at the same time.
    var returning = 0.5
}

/// An object that a model describes, used by one client at a time.
protocol SequentialObject {
    associatedtype M: Model

    /// A request as an action: as it is if it takes effect and its outcome stays unknown.
    func request(_ random: inout SeededGenerator) -> M.Action
    /// Does what is asked; the action with the answer in it.
    mutating func perform(_ request: M.Action) -> M.Action
}

/// Plays clients against an object in random interleavings.
///
/// Each operation takes effect at a moment between its call and its return; with an unknown outcome perhaps never, and
/// perhaps long after it was given up.
func play<Object: SequentialObject>(
    _ shape: Shape,
    _ model: Object.M,
    _ object: Object,
    _ random: inout SeededGenerator
) -> History<Object.M> {
    var object = object
    var history = History(model)
    var (pending, late): ([Pending<Object.M>], [Pending<Object.M>]) = ([], [])
    var called = 0
    var clock: UInt64 = 0
    while called < shape.operations || !pending.isEmpty {
        clock += 1
        if !late.isEmpty, random.chance(0.1) {
            _ = object.perform(late.remove(at: Int.random(in: 0..<late.count, using: &random)).request)
        }
        let idle = (0..<shape.clients).filter { client in !pending.contains { $0.client == client } }
        if called < shape.operations, let client = idle.randomElement(using: &random),
            pending.isEmpty || !random.chance(shape.returning)
        {
            called += 1
            let isUnknown = random.chance(shape.unknown)
            pending.append(Pending(client: client, call: clock, isUnknown: isUnknown, request: object.request(&random)))
            continue
        }
        let index = Int.random(in: 0..<pending.count, using: &random)
        let mayStayOpen = pending[index].isUnknown && random.chance(0.5)
        if pending[index].answered == nil && !mayStayOpen {
            pending[index].answered = object.perform(pending[index].request)
            if random.chance(0.5) { continue }
        }
        let operation = pending.remove(at: index)
        if operation.answered == nil { late.append(operation) }
        history.append(
            Operation(
                client: operation.client,
                call: operation.call,
                returned: operation.isUnknown ? nil : clock,
                action: operation.isUnknown ? operation.request : operation.answered ?? operation.request
            )
        )
    }
    return history
}

private struct Pending<M: Model> {
    var client: Int
    var call: UInt64
    var isUnknown: Bool
    var request: M.Action
    var answered: M.Action?
}

/// A register with values from a small range.
struct Register: SequentialObject {
    typealias M = RegisterModel

    var value: Int64?
    var values: Int64 = 4

    func request(_ random: inout SeededGenerator) -> RegisterModel.Action {
        let number = Int64.random(in: 0..<values, using: &random)
        return switch Int.random(in: 0..<8, using: &random) {
        case 0...2: .read(nil)
        case 3...4: .write(number)
        case 5: .write(nil)
        default:
            .compareAndSet(expected: Int64.random(in: 0..<values, using: &random), new: number, succeeded: true)
        }
    }

    mutating func perform(_ request: RegisterModel.Action) -> RegisterModel.Action {
        switch request {
        case .read: return .read(value)
        case .write(let new): value = new
        case .compareAndSet(let expected, let new, _):
            guard expected == value else { return .compareAndSet(expected: expected, new: new, succeeded: false) }
            value = new
        }
        return request
    }
}

/// A list of numbers. Each appended one is new if `isUnique`.
struct List: SequentialObject {
    typealias M = AppendModel<Int64>

    var value: [Int64]?
    var isUnique = true

    func request(_ random: inout SeededGenerator) -> AppendModel<Int64>.Action {
        let number = isUnique ? Int64.random(in: 0..<1 << 40, using: &random) : Int64.random(in: 0..<3, using: &random)
        return switch Int.random(in: 0..<16, using: &random) {
        case 0...6: .read(nil)
        case 7: .write(random.chance(0.5) ? nil : [number])
        default: .append([number])
        }
    }

    mutating func perform(_ request: AppendModel<Int64>.Action) -> AppendModel<Int64>.Action {
        switch request {
        case .read: return .read(value)
        case .write(let new): value = new
        case .append(let elements): value = (value ?? []) + elements
        }
        return request
    }
}

/// A key of the store, and a revision that other keys raise as well.
struct StoredKey: SequentialObject {
    typealias M = KeyValueModel

    var value: KeyValueModel.Value = .missing
    var revision: UInt64 = 0
    var storeRevision: UInt64 = 10
    /// Whether answers tell revisions.
    var tells = true
    var values: Int64 = 4

    func request(_ random: inout SeededGenerator) -> KeyValueModel.Action {
        let new = KeyValueModel.Value.number(Int64.random(in: 0..<values, using: &random))
        switch Int.random(in: 0..<10, using: &random) {
        case 0...2: return .get(.missing)
        case 3...4: return .put(new)
        case 5: return .delete
        case 6: return .increment(by: 1, result: nil)
        case 7 where tells:
            let expected = UInt64.random(in: (storeRevision - min(storeRevision, 4))...storeRevision, using: &random)
            return .compareAndSet(.revision(random.chance(0.2) ? 0 : expected), new: new, succeeded: true)
        default:
            let expected = KeyValueModel.Value.number(Int64.random(in: 0..<values, using: &random))
            let condition = KeyValueModel.Condition.value(random.chance(0.2) ? .missing : expected)
            return .compareAndSet(condition, new: random.chance(0.2) ? .missing : new, succeeded: true)
        }
    }

    mutating func perform(_ request: KeyValueModel.Action) -> KeyValueModel.Action {
        switch request {
        case .get: return .get(value, revision: told(value == .missing ? nil : revision))
        case .put(let new, _):
            if new != .missing || value != .missing { write(new) }
            return .put(new, revision: new == .missing ? nil : told(revision))
        case .compareAndSet(let condition, let new, _, _):
            let holds =
                switch condition {
                case .value(let expected): expected == value
                case .revision(0): value == .missing
                case .revision(let expected): value != .missing && expected == revision
                }
            guard holds else { return .compareAndSet(condition, new: new, succeeded: false) }
            if new != .missing || value != .missing { write(new) }
            return .compareAndSet(
                condition,
                new: new,
                succeeded: true,
                revision: new == .missing ? nil : told(revision)
            )
        case .increment(let by, _, _):
            var sum = by
            if case .number(let number) = value { sum += number }
            write(.number(sum))
            return .increment(by: by, result: sum, revision: told(revision))
        }
    }

    private mutating func write(_ new: KeyValueModel.Value) {
        // Writes of other keys come in between, in an order that follows from this one.
        storeRevision += 1 + storeRevision % 2
        value = new
        revision = storeRevision
    }

    private func told(_ revision: UInt64?) -> UInt64? { tells ? revision : nil }
}
