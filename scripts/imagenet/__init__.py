"""ResNet-50 on ImageNet: Shampoo for 60 epochs against SGD with Nesterov momentum for 90.

The experiment of the Distributed Shampoo paper (Shi et al. 2023, arXiv:2309.06497), which is no
AlgoPerf workload: both train to the end of their schedules. docs/imagenet.md argues every number of
the two configurations.
"""
