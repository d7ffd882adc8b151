import KeyValueService
import NIOCore

/// What a read asks of the state: `consistency`, `max_stale` and `min_rev`.
struct ReadDemand: Equatable, Sendable {
    static let parameters = ["consistency", "max_stale", "min_rev"]
    private static let maximumStaleness = 3_600_000

    var consistency = Consistency.strong
    /// Milliseconds; with `bounded` only.
    var maximumStaleness = 0
    var minimumRevision: UInt64?

    init() {}

    init(_ query: Query) throws(Problem) {
        if let parameter = query["consistency"] { consistency = try parameter.consistency() }
        minimumRevision = try query["min_rev"].map { parameter throws(Problem) in try parameter.number() }
        let bound = query["max_stale"]
        guard (consistency == .bounded) == (bound != nil) else {
            throw .invalidParameter("max_stale", "goes with consistency=bounded, and that with it.")
        }
        if let bound { maximumStaleness = try bound.duration(maximum: Self.maximumStaleness) }
    }

    /// Whether the confirmation that all strong reads share is what it needs.
    var isPlainlyStrong: Bool { consistency == .strong && minimumRevision == nil }
    /// Whether nothing needs to be waited for.
    var isPlainlyStale: Bool { consistency == .stale && minimumRevision == nil }

    /// - Parameter revision: one that the state must have reached in any case.
    func requirement(reaching revision: UInt64? = nil) -> ReadRequirement {
        let minimum = max(minimumRevision ?? 0, revision ?? 0)
        return switch consistency {
        // What is confirmed needs no more waiting, and a revision that does not exist yet is said so at once.
        case .strong: ReadRequirement(.strong, minimumRevision: minimumRevision)
        case .stale: ReadRequirement(.stale, minimumRevision: minimum > 0 ? minimum : nil)
        case .bounded:
            ReadRequirement(
                .bounded(.milliseconds(Int64(maximumStaleness))),
                minimumRevision: minimum > 0 ? minimum : nil
            )
        }
    }
}

/// What a read was given.
struct PreparedRead: Sendable {
    var consistency: Consistency
    var stalenessMilliseconds: UInt64?

    init(_ demand: ReadDemand, _ permit: ReadPermit) {
        consistency = demand.consistency
        stalenessMilliseconds = permit.stalenessMilliseconds.map { UInt64(clamping: $0) }
    }
}

extension ServerCore {
    /// Waits until the store is as fresh as the request wants it.
    func prepareRead(_ request: APIRequest, reaching revision: UInt64? = nil) async throws -> PreparedRead {
        let demand = try ReadDemand(request.query)
        let timeout = try request.timeout(service.options.defaultTimeout)
        let permit = try await service.permitRead(demand.requirement(reaching: revision), timeout: timeout)
        return PreparedRead(demand, permit)
    }

    /// The answer to a read, with the state of the node that gives it.
    func stamped(_ answer: Answer, _ read: PreparedRead) -> Answer {
        var answer = stamped(answer)
        answer.consistency = read.consistency
        answer.stalenessMilliseconds = read.stalenessMilliseconds
        return answer
    }
}

extension APIRequest {
    /// Watches never come here, where the fast lane is in front.
    func refuseWatch() throws(Problem) {
        if try WatchOptions(query, fields) != nil { throw .notSupported("Watching without the fast lane") }
    }

    func limit(default fallback: Int, maximum: Int) throws(Problem) -> Int {
        guard let parameter = query["limit"] else { return fallback }
        guard let limit = Int(exactly: try parameter.number()), (1...maximum).contains(limit) else {
            throw Problem.invalidParameter("limit", "must lie between 1 and \(maximum).").with { $0.limit = maximum }
        }
        return limit
    }
}
