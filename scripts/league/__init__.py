"""The league: rivals of Shampoo on the stand-in workloads, all tuned alike."""
