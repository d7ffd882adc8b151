/// What a history is held against: the object as if one client at a time used it.
///
/// A model is deterministic: an action holds both what was asked and what was answered, and either it fits a state,
/// and leads to one next state, or it does not. An action whose outcome is unknown is written as the action that it is
/// *if it takes effect*; the search may always leave it out.
package protocol Model: Sendable {
    /// What a state holds as far as actions look for exactly that: the value of a register.
    associatedtype Content: Hashable

    /// The object's state. Two states that are equal must allow the same futures.
    associatedtype State: Hashable, Sendable
    /// A request together with its answer.
    associatedtype Action: Hashable, Sendable

    /// The state before the history.
    var initialState: State { get }

    /// The state after `action`, or nil if `action` cannot have had this answer in `state`.
    func step(_ state: State, _ action: Action) -> State?

    /// Looks at all actions of a history before it is searched, and gives for each what to search with in its place;
    /// nil leaves it out.
    ///
    /// The result must have the same verdict as the given history. What is usually gained: values that nobody observes
    /// become one value, and actions of unknown outcome that nothing can have observed are left out.
    ///
    /// - Parameter isOptional: for each action whether it may be left out (its outcome is unknown).
    mutating func prepare(_ actions: [Action], isOptional: [Bool]) -> [Action?]

    /// Whether `action` can change a state at all.
    func mayChangeState(_ action: Action) -> Bool

    /// Whether `action` leaves nothing of the state before it: whatever can follow it can also follow if the action
    /// right before it did not take effect. So do writes, and not appends.
    func overwrites(_ action: Action) -> Bool

    /// Whether `action` may fit only because `earlier` took effect at some time.
    ///
    /// Shrinking keeps `earlier` for as long as it keeps `action` and nothing came between the two, so that what
    /// remains refutes the whole history too: false must mean that a legal sequence stays legal when `earlier` is left
    /// out of it, as far as `action` goes.
    func mayDepend(_ action: Action, on earlier: Action) -> Bool

    /// Whether `action`, if it fits at all, can only have seen what `source` made: it names the very version.
    func mustStem(_ action: Action, from source: Action) -> Bool

    /// An action that does the same, and fits wherever `action` does and elsewhere too: a write without its condition.
    /// Nil if there is none.
    func relaxed(_ action: Action) -> Action?

    /// What `state` holds, or nil if the model does not tell contents.
    func content(of state: State) -> Content?

    /// What a state must hold for `action` to fit; nil if different contents will do.
    func contentNeeded(by action: Action) -> Content?

    /// What the state holds after `action`; nil if that is not known, or if it is what was there before.
    ///
    /// If all actions that may change a state tell this, the search knows when the last action that makes a content
    /// has taken effect, and does not leave that content while there are actions that still need it. With values that
    /// are written once this makes nearly every choice for it.
    func contentMade(by action: Action) -> Content?

    /// An action as a person reads it, such as `read -> 4`.
    func describe(_ action: Action) -> String

    /// A state as a person reads it, such as `4`.
    func describe(_ state: State) -> String
}
