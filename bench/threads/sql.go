// Go's database/sql over a driver that does nothing.  Debian: golang-go.
// Options, figures and what is printed are those of measure.h; its threads are goroutines, and it yields by runtime.Gosched.
package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"flag"
	"fmt"
	"math"
	"math/bits"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

type connection struct{ number int }

func (*connection) Prepare(string) (driver.Stmt, error) { return nil, driver.ErrSkip }
func (*connection) Close() error                        { return nil }
func (*connection) Begin() (driver.Tx, error)           { return nil, driver.ErrSkip }

type connector struct{}

func (connector) Connect(context.Context) (driver.Conn, error) { return &connection{}, nil }
func (connector) Driver() driver.Driver                        { return nil }

var (
	threads     = flag.Int("threads", 1, "")
	connections = flag.Int("connections", 10, "")
	held        = flag.String("held", "nothing", "")
	measure     = flag.String("measure", "rate", "")
	seconds     = flag.Float64("seconds", 1, "")
	warmup      = flag.Float64("warmup", 1, "")
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// The pool with all its connections open.
func open() *sql.DB {
	db := sql.OpenDB(connector{})
	db.SetMaxOpenConns(*connections)
	db.SetMaxIdleConns(*connections)
	all := make([]*sql.Conn, *connections)
	for index := range all {
		var err error
		all[index], err = db.Conn(context.Background())
		must(err)
	}
	for _, one := range all {
		must(one.Close())
	}
	return db
}

func cpu() float64 {
	var usage syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}

func resident() float64 {
	text, err := os.ReadFile("/proc/self/statm")
	must(err)
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	must(err)
	return float64(pages * os.Getpagesize())
}

func live() float64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return float64(stats.HeapAlloc)
}

const buckets = 60 * 32

func bucketOf(ns uint64) int {
	if ns < 32 {
		return int(ns)
	}
	shift := 58 - bits.LeadingZeros64(ns)
	return shift*32 + int(ns>>shift)
}

func bucketMost(bucket int) uint64 {
	shift := 0
	if bucket >= 64 {
		shift = bucket/32 - 1
	}
	return uint64(bucket-shift*32+1)<<shift - 1
}

type worker struct {
	_                  [128]byte
	pairs              uint64 // plain, as an atomic store of Go's is a locked instruction
	slept, sleeps      uint64
	began, half, ended uint64
	waits              []uint32
	_                  [128]byte
}

var (
	started = time.Now()
	_       [128]byte
	begin   = uint64(math.MaxUint64)
	end     = uint64(math.MaxUint64)
	isOver  uint32
	_       [128]byte
)

func now() uint64 { return uint64(time.Since(started)) }

func (self *worker) hold() {
	switch *held {
	case "yield":
		runtime.Gosched()
	case "sleep":
		counts := atomic.LoadUint64(&begin) != math.MaxUint64
		began := now()
		time.Sleep(time.Millisecond)
		if counts && atomic.LoadUint32(&isOver) == 0 {
			self.slept += now() - began
			self.sleeps++
		}
	}
}

func (self *worker) rate(db *sql.DB) {
	ctx := context.Background()
	for atomic.LoadUint32(&isOver) == 0 {
		lease, err := db.Conn(ctx)
		must(err)
		self.hold()
		must(lease.Close())
		self.pairs++
	}
}

func (self *worker) wait(db *sql.DB) {
	ctx := context.Background()
	for atomic.LoadUint32(&isOver) == 0 {
		asked := now()
		lease, err := db.Conn(ctx)
		got := now()
		must(err)
		if got >= atomic.LoadUint64(&begin) && asked < atomic.LoadUint64(&end) {
			self.waits[bucketOf(got-asked)]++
		}
		self.hold()
		must(lease.Close())
		self.pairs++
	}
}

func reportWaits(workers []worker) {
	var sum [buckets]uint64
	total := uint64(0)
	for index := range workers {
		for bucket, count := range workers[index].waits {
			sum[bucket] += uint64(count)
			total += uint64(count)
		}
	}
	names := []string{"p50", "p99", "p99.9", "p99.99", "longest"}
	for index, quantile := range []float64{0.5, 0.99, 0.999, 0.9999, 1} {
		below, bucket := uint64(0), 0
		for bucket < buckets-1 && float64(below+sum[bucket]) < quantile*float64(total) {
			below += sum[bucket]
			bucket++
		}
		fmt.Printf(" %s=%d", names[index], bucketMost(bucket))
	}
}

func report(workers []worker, span uint64, spent float64) {
	all, first, least, most := uint64(0), uint64(0), uint64(math.MaxUint64), uint64(0)
	slept, sleeps := uint64(0), uint64(0)
	for index := range workers {
		one := &workers[index]
		pairs := one.ended - one.began
		all += pairs
		first += one.half - one.began
		if pairs < least {
			least = pairs
		}
		if pairs > most {
			most = pairs
		}
		slept += one.slept
		sleeps += one.sleeps
	}
	fmt.Printf("peer=go measure=%s threads=%d connections=%d held=%s seconds=%.3f", *measure, *threads, *connections, *held, float64(span)/1e9)
	fmt.Printf(" pairs_s=%.0f least=%d mean=%.1f most=%d cpu_s=%.3f first_half=%.3f", float64(all)*1e9/float64(span), least,
		float64(all)/float64(*threads), most, spent, float64(first)/float64(all))
	if *held == "sleep" {
		fmt.Printf(" held_ns=%.0f", float64(slept)/float64(sleeps))
	}
	if *measure == "wait" {
		reportWaits(workers)
	}
	fmt.Println()
}

func main() {
	flag.Parse()
	residentBefore, liveBefore := resident(), live()
	db := open()
	if *measure == "memory" {
		liveNow := live()
		count := float64(*connections)
		fmt.Printf("peer=go measure=memory connections=%d resident=%.1f live=%.1f\n", *connections, (resident()-residentBefore)/count,
			(liveNow-liveBefore)/count)
		must(db.Close())
		return
	}
	workers := make([]worker, *threads)
	var group sync.WaitGroup
	for index := range workers {
		self := &workers[index]
		self.waits = make([]uint32, buckets)
		group.Add(1)
		go func() {
			if *measure == "wait" {
				self.wait(db)
			} else {
				self.rate(db)
			}
			group.Done()
		}()
	}
	half := time.Duration(*seconds * 5e8)
	time.Sleep(time.Duration(*warmup * 1e9))
	for index := range workers {
		workers[index].began = workers[index].pairs
	}
	windowBegin, spent := now(), cpu()
	atomic.StoreUint64(&begin, windowBegin)
	time.Sleep(half)
	for index := range workers {
		workers[index].half = workers[index].pairs
	}
	time.Sleep(half)
	for index := range workers {
		workers[index].ended = workers[index].pairs
	}
	windowEnd := now()
	spent = cpu() - spent
	atomic.StoreUint64(&end, windowEnd)
	atomic.StoreUint32(&isOver, 1)
	group.Wait()
	report(workers, windowEnd-windowBegin, spent)
	must(db.Close())
}
