internal import AsyncHTTPClient
internal import NIOCore
internal import NIOHTTP1

extension KontikiClient {
    /// What a watch is about.
    public enum WatchTarget: Hashable, Sendable {
        case key(Key)
        /// Every key that begins with it; all for an empty one.
        case prefix(Key)
        /// The holders of a lock: how an election is observed.
        case lock(String)
    }

    /// A change that a watch saw.
    public struct WatchEvent: Hashable, Sendable {
        public enum Kind: String, Hashable, Sendable { case put, delete, expire }

        public var kind: Kind
        /// The store's revision of the change; several changes of one revision follow one another.
        public var revision: UInt64
        public var key: Key
        /// Empty for a delete.
        public var value: [UInt8]
        /// What was there before, where it was asked for.
        public var previous: [UInt8]?
        /// The node's own words, JSON.
        public var document: String
    }

    /// Calls `body` with each change in order, without a gap and without a duplicate, until it answers false or the task is cancelled.
    ///
    /// It goes on at another node when the one that it asked ends or is silent for ``Options/watchSilence``.
    ///
    /// - Parameters:
    ///   - since: changes behind this revision; from now on when nil.
    ///   - withPrevious: ask for what was there before.
    ///   - progress: told every revision up to which everything was seen, also where nothing changed.
    /// - Throws: `compacted` when the node no longer has what lies behind `since`: list, and watch from the list's revision on.
    public func watch(
        _ target: WatchTarget,
        since: UInt64? = nil,
        withPrevious: Bool = false,
        progress: (UInt64) async -> Void = { _ in },
        _ body: (WatchEvent) async throws -> Bool
    ) async throws {
        var position = preferredPosition
        // The id of the last event that came. It is exact, also between two events of one revision, and the same at all nodes.
        var last: String?
        var attempt = 0
        while true {
            do {
                var isOver = false
                try await watchOnce(target, since, withPrevious, last, at: endpoints[position]) { frame in
                    attempt = 0
                    if let event = try frame.event() {
                        isOver = try await !body(event)
                    } else if let revision = try frame.progress() {
                        await progress(revision)
                    }
                    last = frame.id ?? last
                    return !isOver
                }
                if isOver { return }
            } catch let error as ClientError {
                guard [.unavailable, .connectionLost, .timedOut].contains(error.code) else { throw error }
                attempt += 1
                guard attempt <= options.watchAttempts else { throw error }
            }
            try Task.checkCancellation()
            position = next(after: position)
            try await Task.sleep(for: backoff(afterAttempt: attempt))
        }
    }

    private func watchOnce(
        _ target: WatchTarget,
        _ since: UInt64?,
        _ withPrevious: Bool,
        _ lastEventID: String?,
        at endpoint: Endpoint,
        _ body: (EventFrame) async throws -> Bool
    ) async throws {
        let path = try path(target)
        var url = endpoint.url + path + (path.contains("?") ? "&" : "?") + "watch=true"
        if let since { url += "&since=\(since)" }
        if withPrevious { url += "&prev=true" }
        var message = HTTPClientRequest(url: url)
        message.headers.add(name: "Accept", value: "text/event-stream")
        if let lastEventID { message.headers.add(name: "Last-Event-ID", value: lastEventID) }
        let request = Request(method: .GET, target: path)
        do {
            let response = try await streams.execute(message, deadline: .distantFuture)
            guard response.status == .ok else {
                let body = try await response.body.collect(upTo: 1 << 20)
                let answer = Response(
                    status: Int(response.status.code),
                    headers: response.headers,
                    body: body,
                    endpoint: endpoint
                )
                throw Problem.error(from: answer, isRead: true)
            }
            var parser = EventStreamParser()
            for try await piece in response.body {
                for frame in try parser.take(piece) {
                    do {
                        guard try await body(frame) else { return }
                    } catch {
                        throw CallersError(error: error)
                    }
                }
            }
        } catch let error as ClientError {
            throw error
        } catch let error as CallersError {
            throw error.error
        } catch {
            // Whatever the libraries call it when a node goes in the middle of an answer.
            throw Self.translate(error, request, endpoint)
        }
    }

    /// What the caller's own code threw.
    private struct CallersError: Error {
        var error: any Error
    }

    private func path(_ target: WatchTarget) throws(ClientError) -> String {
        switch target {
        case .key(let key): try self.target(key)
        case .prefix(let prefix): "/kv?prefix=" + PercentEncoding.query(prefix.bytes)
        case .lock(let name): "/locks/" + PercentEncoding.query(name.utf8)
        }
    }
}
