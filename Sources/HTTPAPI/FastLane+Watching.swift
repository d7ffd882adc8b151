import KeyValue
import KeyValueService
import NIOCore

/// A watch, or a long poll, on its connection.
final class WatchStream {
    let request: WatchRequest
    var watch: Watch?
    var poll: LongPoll?
    var writer: EventStreamWriter
    /// Where it began.
    var start = EventID(after: 0)
    /// The revision up to which the client was told last that it has everything.
    var told: UInt64 = 0
    var isPumping = false
    /// Since when the client takes nothing.
    var stalledSince: NIODeadline?

    init(_ request: WatchRequest, isChunked: Bool) {
        self.request = request
        writer = EventStreamWriter(isChunked: isChunked)
    }

    /// Where a client that has everything up to `revision`, and no less than at the beginning, goes on.
    func place(_ revision: UInt64) -> EventID { revision == start.after ? start : EventID(after: revision) }

    func cancel() {
        watch?.cancel()
        poll?.cancel()
        watch = nil
        poll = nil
    }
}

/// Streams changes. What a client does not take stays with the node's watch, which is bounded, and not in the channel: something is
/// written only while the channel has room.
extension FastLane {
    /// How often a silent stream says that it lives, and how far it is.
    static let heartbeat = TimeAmount.seconds(10)
    /// Events that are taken at once.
    private static let batch = 64

    func beginWatch(_ request: WatchRequest) {
        let stream = WatchStream(request, isChunked: keepsAlive)
        phase = .watching(stream)
        if let wait = request.options.waitMilliseconds {
            beginPoll(stream, wait: .milliseconds(Int64(wait)))
        } else {
            beginStream(stream)
        }
    }

    private func beginStream(_ stream: WatchStream) {
        let lane = NIOLoopBound(self, eventLoop: loop.eventLoop)
        do throws(Watch.End) {
            let watch = try loop.server.service.watch(
                stream.request.filter,
                after: stream.request.options.since,
                eventLoop: loop.eventLoop
            ) { lane.value.pump() }
            stream.watch = watch
        } catch {
            return answer(Problem(error))
        }
        guard let wire, let start = stream.watch?.start else { return }
        var answer = Answer(200, contentType: "text/event-stream")
        answer.revision = start
        answer.stamp(loop.server.service.vitals)
        loop.server.requests.count(200)
        wire.write(
            NIOAny(
                answer.streamHead(
                    servedBy: loop.server.name,
                    date: loop.date(),
                    isChunked: stream.writer.isChunked,
                    allocator: loop.allocator
                )
            ),
            promise: nil
        )
        // Where it begins, so that a client that is cut off before the first event can go on there.
        stream.start = EventID(after: start, seen: stream.request.options.seen)
        stream.told = start
        stream.writer.appendProgress(stream.start)
        wire.writeAndFlush(NIOAny(stream.writer.take()), promise: nil)
        scheduleWatchdog(in: Self.heartbeat)
        pump()
    }

    /// Writes what there is, as long as the client takes it.
    func pump() {
        guard case .watching(let stream) = phase, let watch = stream.watch, let wire, let context, !stream.isPumping
        else {
            return
        }
        stream.isPumping = true
        defer { stream.isPumping = false }
        while context.channel.isWritable {
            stream.stalledSince = nil
            let batch = watch.take(maximumEvents: Self.batch)
            guard !batch.events.isEmpty else {
                if let end = batch.end { endStream(stream, end) }
                return
            }
            stream.writer.append(batch.events, of: stream.request.filter.space, behind: stream.start)
            stream.told = batch.events[batch.events.count - 1].revision
            wire.writeAndFlush(NIOAny(stream.writer.take()), promise: nil)
            guard case .watching = phase else { return }
            if let end = batch.end { return endStream(stream, end) }
        }
        if stream.stalledSince == nil { stream.stalledSince = .now() }
    }

    private func endStream(_ stream: WatchStream, _ end: Watch.End) {
        let problem = Problem(end)
        switch end {
        case .compacted: finishStream(stream, problem, name: "compacted", resume: nil)
        case .tooSlow(let revision), .failed(_, let revision):
            finishStream(stream, problem.with { $0.revision = revision }, name: "end", resume: stream.place(revision))
        }
    }

    private func finishStream(_ stream: WatchStream, _ problem: Problem, name: StaticString, resume: EventID?) {
        stream.cancel()
        stream.writer.appendEnd(problem, name: name, resume: resume)
        wire?.write(NIOAny(stream.writer.take()), promise: nil)
        wire?.writeAndFlush(NIOAny(stream.writer.end), promise: nil)
        lastActivity = .now()
        phase = .idle
        // Nothing was asked for in the meantime, as a rule, and who asked again is better off on another node or connection.
        beginLingering()
    }

    /// The time of a heartbeat has come.
    func beat(_ stream: WatchStream) {
        guard let watch = stream.watch, let context else { return }
        if context.channel.isWritable {
            let progress = watch.progress
            if progress > stream.told {
                stream.told = progress
                stream.writer.appendProgress(stream.place(progress))
            } else {
                stream.writer.appendHeartbeat()
            }
            wire?.writeAndFlush(NIOAny(stream.writer.take()), promise: nil)
        } else if let since = stream.stalledSince, NIODeadline.now() - since >= loop.server.options.idleTimeout {
            return endStream(stream, .tooSlow(resumeAfter: stream.told))
        }
        scheduleWatchdog(in: Self.heartbeat)
    }

    /// The server stops: the client goes on at another node.
    func endWatchBecauseOfStop() {
        guard case .watching(let stream) = phase else { return }
        guard stream.watch != nil else {
            stream.cancel()
            return answer(.shuttingDown)
        }
        endStream(stream, .failed(ServiceError(.shuttingDown), resumeAfter: stream.told))
    }

    /// The client is gone, or has said that it will send no more, which ends a stream as well.
    func dropWatch() {
        guard case .watching(let stream) = phase else { return }
        stream.cancel()
    }

    // MARK: Long polls

    private func beginPoll(_ stream: WatchStream, wait: TimeAmount) {
        let lane = NIOLoopBound(self, eventLoop: loop.eventLoop)
        let since = stream.request.options.since ?? loop.server.service.store.mark.revision
        stream.poll = loop.server.service.firstEvents(
            stream.request.filter,
            after: since,
            deadline: .now() + wait,
            eventLoop: loop.eventLoop
        ) { result in
            lane.value.polled(result, since: since)
        }
    }

    private func polled(_ result: Result<Watch.Batch, Watch.End>, since: UInt64) {
        guard case .watching(let stream) = phase, let request = stream.request.key else { return }
        stream.poll = nil
        switch result {
        case .failure(let end): answer(Problem(end))
        case .success(let batch) where batch.events.isEmpty: answerUnchanged(at: max(batch.through, since))
        case .success: respond(loop.keys.readHere(request))
        }
    }

    private func answerUnchanged(at revision: UInt64?) {
        var answer = Answer(304)
        answer.revision = revision
        respond(loop.server.stamped(answer))
    }

    /// Answers a long poll before its time.
    func endPoll(_ stream: WatchStream) {
        stream.cancel()
        answerUnchanged(at: stream.request.options.since)
    }
}

extension Problem {
    /// Why a watch is over, or does not begin.
    init(_ end: Watch.End) {
        switch end {
        case .compacted(let revision): self = .unreadableRevision(.compacted(compactRevision: revision))
        case .tooSlow(let revision):
            self.init(
                503,
                .tooSlow,
                "the client reads too slowly",
                "The watch was ended, so that what waits for it does not grow; watch again with since=\(revision)."
            )
            self.revision = revision
            retryable = true
        case .failed(let error, let revision):
            self.init(error)
            self.revision = revision
        }
    }
}

extension Answer {
    /// The head of a response whose body is a stream.
    func streamHead(
        servedBy: String,
        date: StringOfBytes,
        isChunked: Bool,
        allocator: ByteBufferAllocator
    ) -> ByteBuffer {
        var sink = WireSink(buffer: allocator.buffer(capacity: 512))
        sink.buffer.writeStatusLine(status)
        writeFields(to: &sink, servedBy: servedBy)
        sink.buffer.writeBytes(date.bytes)
        sink.field("Cache-Control", "no-store" as StaticString)
        if isChunked {
            sink.field("Transfer-Encoding", "chunked" as StaticString)
        } else {
            sink.field("Connection", "close" as StaticString)
        }
        sink.buffer.writeStaticString("\r\n")
        return sink.buffer
    }
}
