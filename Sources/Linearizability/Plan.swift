/// A history laid out for the search.
struct Plan<M: Model> {
    /// The operations that returned, in the order of their returns: operation r is the target of round r.
    private(set) var actions: [M.Action] = []
    /// Whether an operation never changes a state.
    private(set) var isObserver: [Bool] = []
    /// Their places in the history.
    private(set) var places: [Int] = []
    /// For each round, from `candidateStart[round]` to `candidateStart[round + 1]`: the operations that may take
    /// effect in it, which are the target, first, and those that return later and were called before the target
    /// returned.
    private(set) var candidates: [Int32] = []
    private(set) var candidateStart: [Int32] = [0]
    /// The operations of unknown outcome, in the order of their calls.
    private(set) var optionalActions: [M.Action] = []
    private(set) var optionalPlaces: [Int] = []
    /// For each round how many of the optional ones were called before its target returned.
    private(set) var optionalAvailable: [Int32] = []
    /// The optional ones with equal actions, each class in the order of calls.
    private(set) var classMembers: [[Int32]] = []
    /// The first so many classes do not overwrite: only these can make use of an optional operation right before them.
    private(set) var buildingClasses = 0
    private(set) var classOf: [Int32] = []

    /// The contents, numbered: what each operation needs and makes, -1 for none; and of the optional ones, what they
    /// make.
    private(set) var needed: [Int32] = []
    private(set) var made: [Int32] = []
    private(set) var madeByOptional: [Int32] = []
    private(set) var initialContent: Int32 = -1
    /// For each content how many operations need it, and how many make it.
    private(set) var needs: [Int32] = []
    private(set) var makers: [Int32] = []

    private struct Span {
        var call: UInt64
        var returned: UInt64
        var place: Int32
    }

    init(_ operations: [Operation<M>], _ model: inout M) {
        let prepared = model.prepare(operations.map(\.action), isOptional: operations.map { $0.returned == nil })
        precondition(prepared.count == operations.count, "a model prepared another number of actions than it was given")
        var spans: [Span] = []
        var optional: [Span] = []
        spans.reserveCapacity(operations.count)
        for (place, operation) in operations.enumerated() where prepared[place] != nil {
            let span = Span(call: operation.call, returned: operation.returned ?? .max, place: Int32(place))
            if operation.returned == nil { optional.append(span) } else { spans.append(span) }
        }
        spans.sort { ($0.returned, $0.call, $0.place) < ($1.returned, $1.call, $1.place) }
        optional.sort { ($0.call, $0.place) < ($1.call, $1.place) }
        places = spans.map { Int($0.place) }
        actions = spans.compactMap { prepared[Int($0.place)] }
        isObserver = actions.map { !model.mayChangeState($0) }
        layOutRounds(spans)
        layOutOptional(optional, spans, prepared)
        layOutClasses(model)
        countContents(model)
    }

    private mutating func layOutRounds(_ spans: [Span]) {
        let byCall = spans.indices.sorted { (spans[$0].call, $0) < (spans[$1].call, $1) }
        var called = 0
        var pending: [Int32] = []
        candidates.reserveCapacity(spans.count * 2)
        candidateStart.reserveCapacity(spans.count + 1)
        for round in spans.indices {
            while called < byCall.count, spans[byCall[called]].call <= spans[round].returned {
                pending.append(Int32(byCall[called]))
                called += 1
            }
            candidates.append(Int32(round))
            var kept = 0
            for index in pending.indices where pending[index] > Int32(round) {
                candidates.append(pending[index])
                pending[kept] = pending[index]
                kept += 1
            }
            pending.removeSubrange(kept...)
            candidateStart.append(Int32(candidates.count))
        }
    }

    private mutating func layOutOptional(_ optional: [Span], _ spans: [Span], _ prepared: [M.Action?]) {
        optionalPlaces = optional.map { Int($0.place) }
        optionalActions = optional.compactMap { prepared[Int($0.place)] }
        var called = 0
        for span in spans {
            while called < optional.count, optional[called].call <= span.returned { called += 1 }
            optionalAvailable.append(Int32(called))
        }
    }

    private mutating func layOutClasses(_ model: M) {
        var classes: [M.Action: Int32] = [:]
        classOf = Array(repeating: 0, count: optionalActions.count)
        for overwriting in [false, true] {
            for (number, action) in optionalActions.enumerated() where model.overwrites(action) == overwriting {
                let found = classes[action] ?? Int32(classMembers.count)
                if found == classMembers.count {
                    classes[action] = found
                    classMembers.append([])
                }
                classMembers[Int(found)].append(Int32(number))
                classOf[number] = found
            }
            if !overwriting { buildingClasses = classMembers.count }
        }
    }

    private mutating func countContents(_ model: M) {
        let all = [actions, optionalActions].joined()
        let areTold =
            model.content(of: model.initialState) != nil
            && all.allSatisfy { model.contentMade(by: $0) != nil || !model.mayChangeState($0) }
        var numbers: [M.Content: Int32] = [:]
        func number(_ content: M.Content?) -> Int32 {
            guard areTold, let content else { return -1 }
            if let known = numbers[content] { return known }
            let next = Int32(numbers.count)
            numbers[content] = next
            return next
        }
        initialContent = number(model.content(of: model.initialState))
        needed = actions.map { number(model.contentNeeded(by: $0)) }
        made = actions.map { number(model.contentMade(by: $0)) }
        madeByOptional = optionalActions.map { number(model.contentMade(by: $0)) }
        needs = Array(repeating: 0, count: numbers.count)
        makers = needs
        for content in needed where content >= 0 { needs[Int(content)] += 1 }
        for content in made where content >= 0 { makers[Int(content)] += 1 }
        for content in madeByOptional where content >= 0 { makers[Int(content)] += 1 }
    }
}
