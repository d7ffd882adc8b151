import KontikiClient

/// A bounded number of puts under way, those of one key one after the other.
struct PutWindow {
    private struct Underway {
        var task: Task<Result<Void, ClientError>, Never>
        var key: [UInt8]
        var line: Int
    }

    private let client: KontikiClient
    private let limit: Int
    /// In the order they began; `head` is the oldest.
    private var underway: [Underway] = []
    private var head = 0
    private var keys: Set<[UInt8]> = []
    /// Puts that are acknowledged.
    private(set) var stored = 0

    init(client: KontikiClient, limit: Int) {
        self.client = client
        self.limit = limit
    }

    /// Begins a put; waits while too many are under way, or one of the same key is.
    ///
    /// - Throws: a `Failure` when an earlier put failed; it names the line. Nothing further is begun then.
    mutating func put(_ record: Record, line: Int) async throws {
        while underway.count - head >= limit || keys.contains(record.key) { try await finishOldest() }
        let client = client
        let task = Task { () -> Result<Void, ClientError> in
            do throws(ClientError) {
                try await client.put(Key(bytes: record.key), record.value, contentType: record.contentType)
                return .success(())
            } catch {
                return .failure(error)
            }
        }
        keys.insert(record.key)
        underway.append(Underway(task: task, key: record.key, line: line))
    }

    /// Waits for all that is under way.
    mutating func drain() async throws {
        while head < underway.count { try await finishOldest() }
    }

    private mutating func finishOldest() async throws {
        let oldest = underway[head]
        head += 1
        if head >= 1024 {
            underway.removeFirst(head)
            head = 0
        }
        let result = await oldest.task.value
        keys.remove(oldest.key)
        switch result {
        case .success: stored += 1
        case .failure(let error):
            // The rest is waited for, so that the number that is reported is the number that is stored.
            for other in underway[head...] {
                if case .success = await other.task.value { stored += 1 }
            }
            head = underway.count
            throw Failure(ExitStatus(error), "line \(oldest.line): \(error); run the import again to go on")
        }
    }
}
