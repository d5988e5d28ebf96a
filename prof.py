import sys, cProfile, pstats, subprocess, anyio, time, itertools
import benchmarks.http_steps as b
what, clients, shards = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
srv=subprocess.Popen([sys.executable,"-m","benchmarks.http_steps","--serve",what],stdout=subprocess.PIPE)
port=int(srv.stdout.readline())
async def main():
    cs=[b.own_client(max_connections=512//shards) for _ in range(shards)]
    url=f"http://127.0.0.1:{port}"
    calls=[b._bare(c,url+"/echo") if what=="echo" else b._step(b.HttpTransport(url,client=c)) for c in cs]
    it=itertools.cycle(calls)
    async def call(): await next(it)()
    await b._window(call,clients,0.7)
    t=time.process_time()
    p=cProfile.Profile()
    if len(sys.argv)>4: p.enable()
    r=await b._window(call,clients,2)
    p.disable()
    print(what,clients,shards,round(r),"cpu",round((time.process_time()-t),2), "us cpu/call", round((time.process_time()-t)/(r*2)*1e6))
    if len(sys.argv)>4: pstats.Stats(p).sort_stats("tottime").print_stats(22)
    for c in cs: await c.aclose()
anyio.run(main); srv.kill()
