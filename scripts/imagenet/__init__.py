"""ResNet-50 on ImageNet by Shampoo and by SGD, no AlgoPerf workload; see docs/imagenet.md."""
