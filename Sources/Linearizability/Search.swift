/// The search for an order: Wing and Gong's, with Lowe's memory of configurations that led nowhere.
///
/// The operations that returned are taken in the order of their returns, a *round* each. In a round its operation, the
/// target, must take effect, at once or behind others that were called before the target returned; what took effect
/// early is passed over when its round comes. A configuration is (round, which of the concurrent ones took effect,
/// state, which optional ones took effect), and the search is depth first over these. Optional are the operations of
/// unknown outcome: they are there from their call on, and need never take effect.
///
/// What keeps it small, and why it is sound:
/// - An observer (a read, a compare-and-set that failed) takes effect as soon as it fits and leaves the state as it
///   is: nothing else misses it later. This does not go for a write of the value that is there already, which may be
///   wanted behind another one.
/// - A configuration that led nowhere is remembered. One that differs from it only in that *more* optional ones are
///   used up leads nowhere either, because unused ones need never be used.
/// - Of optional ones with the same action the one called first goes first: whichever of them is used, they stay equal.
/// - An optional one is not followed by an operation that fits without it and leads to the same state: it was for
///   nothing, and the shorter way is tried as well. So a chain of optional writes is no longer than needed. Of two
///   optional ones the second does not overwrite.
/// - A content that nothing can make any more is not left while there are operations that need it.
///
/// Where the search ends without success, each configuration that was not visited is matched by a visited one with
/// fewer used up, so no order was missed.
struct Search<M: Model> {
    enum Outcome { case found, none, outOfSteps }

    private struct Frame {
        var state: M.State
        /// The number of what the state holds; -1 if contents are not told.
        var content: Int32
        var round: Int32
        /// The trail's length before the step into this configuration.
        var trail: Int32
        /// The next choice; see `advance()`.
        var next: Int32
        /// The step into it was an optional operation, and nothing took effect by it: the useless ones are told by the
        /// state before.
        var followsBareOptional: Bool
        var isRemembered: Bool
    }

    private let model: M
    private let plan: Plan<M>
    private var memory: Memory<M.State>
    private var frames: [Frame] = []
    private var tookEffect: [Bool]
    private var usedOptional: [UInt64]
    /// For each class of equal optional actions, how many of its members are used.
    private var usedInClass: [Int32]
    /// For each content how many operations still need it, and how many can still make it.
    private var needs: [Int32]
    private var makers: [Int32]
    /// What took effect, in order; an optional one as the complement of its place.
    private var trail: [Int32] = []
    private var scratch: [UInt64] = []
    private(set) var steps = 0

    init(_ history: History<M>) {
        var model = history.model
        plan = Plan(history.operations, &model)
        self.model = model
        tookEffect = Array(repeating: false, count: plan.actions.count)
        usedOptional = Array(repeating: 0, count: (plan.optionalActions.count + 63) / 64)
        usedInClass = Array(repeating: 0, count: plan.classMembers.count)
        needs = plan.needs
        makers = plan.makers
        memory = Memory(rounds: plan.actions.count, usedWords: usedOptional.count)
        trail.reserveCapacity(plan.actions.count)
    }

    /// The model as it was prepared for this history.
    var preparedModel: M { model }

    /// The places, in the history, of what took effect so far: once an order is found, this is it.
    var order: [Int] {
        trail.map { $0 >= 0 ? plan.places[Int($0)] : plan.optionalPlaces[Int(~$0)] }
    }

    mutating func run(limit: Int) -> Outcome {
        let start = model.initialState
        let entry = enter(round: 0, state: start, content: plan.initialContent, trailLength: 0, byOptional: false)
        if entry == .end { return .found }
        while !frames.isEmpty {
            guard steps < limit else { return .outOfSteps }
            if advance() { return .found }
        }
        return .none
    }

    /// Tries the choices of the last frame until one leads on; without one, goes back. True at the end of all rounds.
    ///
    /// The choices: the target and the other candidates, then the classes of optional ones; in a first pass those
    /// after which the target fits, because mostly just one write is missing, in a second pass the others.
    private mutating func advance() -> Bool {
        let top = frames.count - 1
        let round = Int(frames[top].round)
        let start = Int(plan.candidateStart[round])
        let candidates = Int(plan.candidateStart[round + 1]) - start
        let classes = frames[top].followsBareOptional ? plan.buildingClasses : plan.classMembers.count
        while Int(frames[top].next) < 2 * (candidates + classes) {
            let isFirstPass = Int(frames[top].next) < candidates + classes
            let choice = Int(frames[top].next) - (isFirstPass ? 0 : candidates + classes)
            frames[top].next += 1
            let trailLength = trail.count
            let entry: Entry
            if choice < candidates {
                let operation = Int(plan.candidates[start + choice])
                guard !tookEffect[operation], choice > 0 || isFirstPass,
                    mayLeave(top, to: plan.made[operation], by: plan.needed[operation]),
                    let state = usefulStep(top, plan.actions[operation]),
                    choice == 0 || fitsTarget(round, state) == isFirstPass
                else { continue }
                take(operation)
                let content = plan.made[operation] >= 0 ? plan.made[operation] : frames[top].content
                entry = enter(
                    round: round,
                    state: state,
                    content: content,
                    trailLength: trailLength,
                    byOptional: false
                )
            } else {
                let (members, used) = (plan.classMembers[choice - candidates], Int(usedInClass[choice - candidates]))
                guard used < members.count, members[used] < plan.optionalAvailable[round] else { continue }
                let optional = Int(members[used])
                guard mayLeave(top, to: plan.madeByOptional[optional], by: -1),
                    let state = usefulStep(top, plan.optionalActions[optional]), state != frames[top].state,
                    fitsTarget(round, state) == isFirstPass
                else { continue }
                remember(top)
                takeOptional(optional)
                entry = enter(
                    round: round,
                    state: state,
                    content: plan.madeByOptional[optional],
                    trailLength: trailLength,
                    byOptional: true
                )
            }
            switch entry {
            case .end: return true
            case .pushed: return false
            case .known: continue
            }
        }
        remember(top)
        undo(to: Int(frames[top].trail))
        frames.removeLast()
        return false
    }

    /// Whether the content of the frame is not needed any more behind an operation that makes another one, or can be
    /// made again.
    @inline(__always)
    private func mayLeave(_ top: Int, to made: Int32, by needed: Int32) -> Bool {
        let content = frames[top].content
        if content < 0 || made < 0 || made == content || makers[Int(content)] > 0 { return true }
        return needs[Int(content)] == (needed == content ? 1 : 0)
    }

    private mutating func take(_ operation: Int) {
        tookEffect[operation] = true
        trail.append(Int32(operation))
        if plan.needed[operation] >= 0 { needs[Int(plan.needed[operation])] -= 1 }
        if plan.made[operation] >= 0 { makers[Int(plan.made[operation])] -= 1 }
    }

    private mutating func takeOptional(_ optional: Int) {
        usedOptional[optional >> 6] |= 1 << UInt64(optional & 63)
        usedInClass[Int(plan.classOf[optional])] += 1
        trail.append(~Int32(optional))
        if plan.madeByOptional[optional] >= 0 { makers[Int(plan.madeByOptional[optional])] -= 1 }
    }

    @inline(__always)
    private mutating func fitsTarget(_ round: Int, _ state: M.State) -> Bool {
        steps += 1
        return model.step(state, plan.actions[round]) != nil
    }

    /// The state after the action, or nil if the action does not fit or makes the optional step before it useless.
    @inline(__always)
    private mutating func usefulStep(_ top: Int, _ action: M.Action) -> M.State? {
        steps += 1
        guard let state = model.step(frames[top].state, action) else { return nil }
        if frames[top].followsBareOptional {
            steps += 1
            if model.step(frames[top - 1].state, action) == state { return nil }
        }
        return state
    }

    private enum Entry { case end, pushed, known }

    /// Goes to a configuration: lets the observers that fit take effect, passes over rounds that are done, and looks
    /// whether it is known to lead nowhere; then the trail is undone to the given length.
    private mutating func enter(
        round: Int,
        state: M.State,
        content: Int32,
        trailLength: Int,
        byOptional: Bool
    ) -> Entry {
        var round = round
        let (firstRound, lengthBefore) = (round, trail.count)
        while round < plan.actions.count {
            for index in Int(plan.candidateStart[round])..<Int(plan.candidateStart[round + 1]) {
                let operation = Int(plan.candidates[index])
                guard plan.isObserver[operation], !tookEffect[operation] else { continue }
                steps += 1
                if model.step(state, plan.actions[operation]) == state { take(operation) }
            }
            guard tookEffect[round] else { break }
            round += 1
        }
        if round == plan.actions.count { return .end }
        if memory.hasAny(round) {
            loadConfiguration(round)
            if memory.contains(round: round, state: state, words: scratch) {
                undo(to: trailLength)
                return .known
            }
        }
        let isBare = byOptional && round == firstRound && trail.count == lengthBefore
        frames.append(
            Frame(
                state: state,
                content: content,
                round: Int32(round),
                trail: Int32(trailLength),
                next: 0,
                followsBareOptional: isBare,
                isRemembered: false
            )
        )
        return .pushed
    }

    /// Remembers a frame, at the latest when its choices are exhausted. Before an optional one takes effect it must be
    /// known already, because a chain of these may lead back to the same state with more used up.
    private mutating func remember(_ top: Int) {
        guard !frames[top].isRemembered else { return }
        frames[top].isRemembered = true
        let round = Int(frames[top].round)
        loadConfiguration(round)
        memory.insert(round: round, state: frames[top].state, words: scratch)
    }

    /// Which of the round's candidates and which optional ones took effect, as words of bits.
    private mutating func loadConfiguration(_ round: Int) {
        scratch.removeAll(keepingCapacity: true)
        let (start, end) = (Int(plan.candidateStart[round]), Int(plan.candidateStart[round + 1]))
        var word: UInt64 = 0
        for index in start..<end {
            let bit = UInt64(index - start) & 63
            if tookEffect[Int(plan.candidates[index])] { word |= 1 << bit }
            if bit == 63 {
                scratch.append(word)
                word = 0
            }
        }
        scratch.append(word)
        scratch.append(contentsOf: usedOptional)
    }

    private mutating func undo(to length: Int) {
        while trail.count > length {
            let last = trail.removeLast()
            if last >= 0 {
                let operation = Int(last)
                tookEffect[operation] = false
                if plan.needed[operation] >= 0 { needs[Int(plan.needed[operation])] += 1 }
                if plan.made[operation] >= 0 { makers[Int(plan.made[operation])] += 1 }
            } else {
                let optional = Int(~last)
                usedOptional[optional >> 6] &= ~(1 << UInt64(optional & 63))
                usedInClass[Int(plan.classOf[optional])] -= 1
                if plan.madeByOptional[optional] >= 0 { makers[Int(plan.madeByOptional[optional])] += 1 }
            }
        }
    }
}
