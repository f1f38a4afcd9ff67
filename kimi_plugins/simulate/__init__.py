"""What scheduling costs on any number of engines: a discrete-event simulation of synchronous, partial and asynchronous
rollouts (k1.5 §2.6.2). Its figures are simulated; how far they agree with runs is in docs/simulator.md.
"""
