internal import Glibc

/// Which image: of which walk through the trace, behind which record, and which of the cuts there.
package struct ImageName: Hashable, Sendable, CustomStringConvertible {
    package var pass: Int
    package var record: Int
    package var number: Int

    package var description: String { "\(pass):\(record):\(number)" }

    package init(pass: Int, record: Int, number: Int) {
        (self.pass, self.record, self.number) = (pass, record, number)
    }

    package init?(_ text: String) {
        let numbers = text.split(separator: ":").compactMap { Int($0) }
        guard numbers.count == 3 else { return nil }
        self.init(pass: numbers[0], record: numbers[1], number: numbers[2])
    }
}

/// Walks through the trace of one recorded run and makes images of what power cuts could have left.
package struct ImageRun {
    /// What a walk is to do.
    package struct Plan: Sendable {
        package var seed: UInt64
        /// How many different images.
        package var images: Int
        /// Of several processes, which one, and how many there are: each checks its share of the images.
        package var share = 0
        package var shares = 1
        /// Only this one.
        package var only: ImageName?

        package init(seed: UInt64, images: Int) { (self.seed, self.images) = (seed, images) }
    }

    private let records: [Trace.Record]
    private let base: String?
    private let found: LogShape?
    private let plan: Plan
    private var seen: Set<UInt64> = []
    private var checked: Set<UInt64> = []
    /// Different images met so far, those of other processes included.
    package private(set) var distinct = 0

    package init(trace: Trace, base: String?, found: LogShape?, plan: Plan) {
        (records, self.base, self.found, self.plan) = (trace.records, base, found, plan)
    }

    /// Calls `body` for each image that this process is to check. Ends early when `body` answers false.
    ///
    /// - Throws: when the trace contradicts itself, or `body` throws.
    package mutating func walk(
        _ body: (ImageName, DiskImage, Expectation) throws -> Bool
    ) throws {
        for pass in plan.only.map({ $0.pass...$0.pass }) ?? 0...15 where distinct < plan.images {
            guard try walk(pass: pass, body) else { return }
        }
    }

    private mutating func walk(
        pass: Int,
        _ body: (ImageName, DiskImage, Expectation) throws -> Bool
    ) throws -> Bool {
        let disk = try DiskState(base: base)
        var expectation = Expectation(found: found)
        for (record, event) in records.enumerated() {
            if case .note(let note) = event.event {
                expectation.advance(note)
                if let wrong = expectation.contradiction { throw Violation("before any power cut: \(wrong)") }
            } else {
                disk.advance(event)
            }
            if let only = plan.only {
                guard only.record == record else { continue }
                return try visit(only, disk, expectation, body)
            }
            let quota = (max(0, plan.images - distinct) + records.count - record - 1) / (records.count - record)
            let attempts = disk.pendingChanges == 0 ? 1 : 4 + 3 * quota
            let before = distinct
            for attempt in 0..<attempts where distinct - before < max(quota, 1) {
                let name = ImageName(pass: pass, record: record, number: pass * 100_000 + attempt)
                guard try visit(name, disk, expectation, body) else { return false }
            }
        }
        return true
    }

    private mutating func visit(
        _ name: ImageName,
        _ disk: DiskState,
        _ expectation: Expectation,
        _ body: (ImageName, DiskImage, Expectation) throws -> Bool
    ) throws -> Bool {
        let image = disk.image(number: name.number, seed: mix(plan.seed, UInt64(name.record)))
        if seen.insert(image.hash).inserted { distinct += 1 }
        let isNew = checked.insert(mix(image.hash, expectation.fingerprint)).inserted
        let isMine = image.hash % UInt64(plan.shares) == UInt64(plan.share)
        guard plan.only != nil || (isNew && isMine) else { return true }
        return try body(name, image, expectation)
    }
}
